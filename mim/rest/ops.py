"""For operators: is it alive, is it ready, what is it doing."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable

import structlog
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from mim.chat.context import Context
from mim.config import secret
from mim.errors import Code, PeerError
from mim.rest.bodies import json_answer
from mim.tasks import TaskSet

log = structlog.get_logger("mim.ops")

PROBE_S = 2.0
BUS_S = 10.0  # without a sign of life from Redis


Scrape = Callable[[], Awaitable[bytes]]
"""The text of the metrics of everything that serves this port."""


async def own_figures() -> bytes:
    """Those of this process."""
    return generate_latest()


def ops_router(context: Context, scrape: Scrape = own_figures) -> APIRouter:
    """`/healthz`, `/readyz` and `/metrics`."""
    router = APIRouter(tags=["operations"])
    probe = Probe(context)

    @router.get("/healthz", summary="Whether the process is alive")
    async def healthz() -> Response:
        return json_answer({"status": "ok"})

    @router.get("/readyz", summary="Whether the node can serve: 503 while storage is away")
    async def readyz() -> Response:
        # Without its bus a node still serves its own sockets, and all nodes are without it at the same time.
        parts = {"bus": "ok" if context.clock.monotonic() - context.bus.whole_until() < BUS_S else "away"}
        if await probe.answers():
            return json_answer({"status": "ok", "postgres": "ok", **parts})
        return json_answer({"status": "unavailable", "postgres": "away", **parts}, 503)

    @router.get("/metrics", summary="Prometheus metrics")
    async def metrics(request: Request) -> Response:
        _check_token(request, secret(context.settings.metrics_token))
        return Response(await scrape(), media_type=CONTENT_TYPE_LATEST)

    return router


class Probe:
    """Asks storage for a sign of life. To give up on a stalled database takes the driver long, so the question is a
    task of its own, and there is one at a time, however many ask and give up waiting.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._tasks = TaskSet()
        self._asked: asyncio.Task[bool] | None = None

    async def answers(self) -> bool:
        """Whether storage answers within PROBE_S."""
        if self._asked is None or self._asked.done():
            self._asked = self._tasks.spawn(self._ask(), name="readiness")
        await asyncio.wait({self._asked}, timeout=PROBE_S)
        return self._asked.done() and not self._asked.cancelled() and self._asked.result()

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_S):
                await self._context.pool.fetchval("select 1")
        except Exception as exc:  # noqa: BLE001 - whatever keeps storage from answering, the node is not ready
            log.warning("not ready", error=type(exc).__name__)
            return False
        return True


def _check_token(request: Request, token: str | None) -> None:
    given = request.headers.get("authorization", "")
    if token is not None and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise PeerError(Code.UNAUTHORIZED, "metrics: send the bearer token that MIM_METRICS_TOKEN sets")
