"""Whether a host is one of the Internet's or one of our own network's."""

import asyncio
import ipaddress
import socket
from typing import Final

LOOKUP_S: Final = 5.0
KEPT: Final = 1000
KEPT_S: Final = 60.0

_known: dict[tuple[str, int], tuple[float, bool]] = {}


async def is_public(host: str, port: int) -> bool:
    """Whether every address of the host is a public one. False when it has none. Looked up once a minute."""
    loop = asyncio.get_running_loop()
    asked, answer = _known.get((host, port), (0.0, False))
    if asked and loop.time() - asked < KEPT_S:
        return answer
    try:
        async with asyncio.timeout(LOOKUP_S):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    answer = bool(found) and all(_is_global(str(address[0])) for *_, address in found)
    if len(_known) >= KEPT:
        _known.clear()
    _known[host, port] = (loop.time(), answer)
    return answer


def _is_global(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_global and not (mapped or parsed).is_multicast
