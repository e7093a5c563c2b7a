"""The reference web client: the files of `mim/web/`, served from memory at `/`.

Only names that were read at the start are served, so no path of a request ever reaches the disk. Each answer forbids
what the client does not need: code or style from elsewhere or inline, frames around it, and turning text into markup.

The service worker has to change whenever any file does, or browsers would keep an old client for ever. So what it
keeps is written in front of it here: the list of files and a version made of their contents.
"""

import gzip
import hashlib
import json
import mimetypes
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from fastapi import APIRouter, Request, Response

WORKER: Final = "/sw.js"

POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types mim",
    ]
)

HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "X-Frame-Options": "DENY",
    # Asked again each time, answered by 304: a new release is seen at once. The worker keeps the client for offline.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}

TYPES: Final = {".js": "text/javascript", ".webmanifest": "application/manifest+json", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it goes out."""

    body: bytes
    media_type: str
    packed: bytes = field(init=False)
    etag: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "packed", gzip.compress(self.body, 9, mtime=0))
        object.__setattr__(self, "etag", f'"{hashlib.sha256(self.body).hexdigest()[:20]}"')


def web_router() -> APIRouter:
    """One route for each file of the client; they are no part of the described API."""
    router = APIRouter()
    for path, asset in assets().items():
        router.add_api_route(path, _server(asset), methods=["GET", "HEAD"], include_in_schema=False)
    return router


def assets() -> dict[str, Asset]:
    """Every file of the client by its address."""
    found = dict(sorted(_walk(files("mim") / "web", "/")))
    worker = found.pop(WORKER)
    version = hashlib.sha256(b"".join(path.encode() + asset.body for path, asset in found.items())).hexdigest()[:16]
    # The large icons are for the system, which keeps them itself when the client is installed.
    shell = json.dumps({"version": version, "files": [path for path in found if not path.endswith(".png")]})
    found[WORKER] = Asset(f"self.SHELL = {shell};\n".encode() + worker.body, worker.media_type)
    return found


def _walk(folder: Traversable, address: str) -> Iterator[tuple[str, Asset]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{address}{entry.name}/")
        elif not entry.name.startswith(".") and (kind := _media_type(entry.name)):
            yield (address if entry.name == "index.html" else address + entry.name), Asset(entry.read_bytes(), kind)


def _media_type(name: str) -> str:
    """The type of a file by its name; "" for what no browser needs."""
    suffix = "." + name.rpartition(".")[2]
    kind = TYPES.get(suffix) or mimetypes.guess_type(name)[0] or ""
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def _server(asset: Asset) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        headers = {**HEADERS, "ETag": asset.etag}
        if asset.etag in request.headers.get("if-none-match", ""):
            return Response(None, 304, headers)
        body = asset.body
        if "gzip" in request.headers.get("accept-encoding", "") and len(asset.packed) < len(body):
            headers["Content-Encoding"] = "gzip"
            body = asset.packed
        return Response(body, 200, headers, media_type=asset.media_type)

    return serve
