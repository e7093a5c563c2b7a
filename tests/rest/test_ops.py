"""What operators look at."""

import shutil
import subprocess

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import Refused, RunningServer, direct, running

PROMISED = {
    "mim_connections", "mim_sessions", "mim_frames_in", "mim_frames_out", "mim_deliveries", "mim_closes",
    "mim_errors", "mim_messages", "mim_commit_seconds", "mim_commit_batch_messages", "mim_commit_queue_messages",
    "mim_delivery_seconds", "mim_open_seconds", "mim_calls", "mim_watermark_queue", "process_cpu_seconds",
    "process_resident_memory_bytes", "process_open_fds",
}  # fmt: skip


async def get(server: RunningServer, path: str, **headers: str) -> httpx.Response:
    """One request of its own connection."""
    async with httpx.AsyncClient(base_url=server.http) as client:
        return await client.get(path, headers=headers)


async def test_alive_and_ready(database_url: str) -> None:
    async with running(database_url) as server:
        assert (await get(server, "/healthz")).json() == {"status": "ok"}
        answer = await get(server, "/readyz")
        assert (answer.status_code, answer.json()) == (
            200,
            {"status": "ok", "postgres": "ok", "bus": "ok"},
        )


async def test_metrics_tell_what_happened_and_are_valid(database_url: str) -> None:
    async with running(database_url) as server, server.phone("mina") as mina, server.phone("jun") as jun:
        chat = await direct(mina, jun)
        before = await figures(server)
        for n in range(5):
            await mina.sends(chat, f"m{n}")
        with pytest.raises(Refused):
            await mina.sends(chat + 1, "nowhere")
        with pytest.raises(Refused):
            await mina.calls("chat.get", chat=chat + 1)
        after = await figures(server)

        def risen(name: str, **labels: str) -> float:
            key = (name, frozenset(labels.items()))
            return after[key] - before.get(key, 0)

        assert risen("mim_messages_total", outcome="stored") == 5
        assert risen("mim_messages_total", outcome="not_member") == 1
        assert risen("mim_frames_in_total", op="SEND") == 6
        assert risen("mim_frames_out_total", op="ACK") == 5
        assert risen("mim_errors_total", code="not_member") == 2
        assert risen("mim_deliveries_total", path="local") == 5
        assert risen("mim_calls_total", method="chat.get", code="not_member") == 1
        assert risen("mim_commit_batch_messages_sum") == 6
        assert risen("mim_delivery_seconds_count") >= 1
        assert after["mim_sessions", frozenset()] == 2


async def figures(server: RunningServer) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """All samples by name and labels, after both parsers have read them."""
    text = (await get(server, "/metrics")).text
    if promtool := shutil.which("promtool"):
        check = subprocess.run(  # noqa: ASYNC221 - milliseconds
            [promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=30
        )
        assert check.returncode == 0, check.stdout + check.stderr
    families = list(text_string_to_metric_families(text))
    assert {family.name for family in families} >= PROMISED
    assert all(family.documentation for family in families)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


async def test_metrics_may_ask_for_a_token(database_url: str) -> None:
    async with running(database_url, metrics_token="a token for prometheus") as server:
        assert (await get(server, "/metrics")).status_code == 401
        assert (await get(server, "/metrics", authorization="Bearer another")).status_code == 401
        assert (await get(server, "/metrics", authorization="Bearer a token for prometheus")).status_code == 200
