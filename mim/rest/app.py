"""The HTTP app: routes, and one way to answer every failure."""

import structlog
from fastapi import FastAPI, Request, Response
from prometheus_client import Counter
from starlette.exceptions import HTTPException

from mim import __version__
from mim.chat.calls import peer_error
from mim.chat.context import Context
from mim.errors import Code, PeerError
from mim.rest.auth import auth_router
from mim.rest.bodies import failure_answer
from mim.rest.calls import calls_router
from mim.rest.ops import Scrape, ops_router, own_figures
from mim.rest.web import web_router

log = structlog.get_logger("mim.rest")

FAILURES = Counter("mim_http_errors_total", "HTTP requests that failed, by code.", ["code"])

DESCRIPTION = """
The HTTP side of mim: signing in, and every CALL method for bots and back ends that need no socket. The socket
itself is at `/v1/ws`; its frames are described by the AsyncAPI document and by the pages in `proto/`.
"""


def build_app(context: Context, scrape: Scrape = own_figures) -> FastAPI:
    """The app of one node. `scrape` gives the metrics, of more than this process where there are several."""
    app = FastAPI(title="mim", version=__version__.partition("+")[0], description=DESCRIPTION.strip(), redoc_url=None)
    app.add_exception_handler(PeerError, _on_peer_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_failure)
    app.include_router(auth_router(context.identity))
    app.include_router(calls_router(context))
    app.include_router(ops_router(context, scrape))
    app.include_router(web_router())
    return app


async def _on_peer_error(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, PeerError)
    FAILURES.labels(exc.code).inc()
    return failure_answer(exc)


async def _on_http_error(_: Request, exc: Exception) -> Response:
    """What the framework itself refuses: unknown paths and methods."""
    assert isinstance(exc, HTTPException)
    if exc.status_code == 405:
        answer = failure_answer(PeerError(Code.BAD_FRAME, "this path takes another HTTP method"))
        answer.status_code = 405
        return answer
    return failure_answer(PeerError(Code.NOT_FOUND, "there is nothing at this path; see /docs"))


async def _on_failure(_: Request, exc: Exception) -> Response:
    error = peer_error(exc)
    FAILURES.labels(error.code).inc()
    return failure_answer(error)
