import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from mim import logs

log = structlog.get_logger("mim.test")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, disabled = root.handlers[:], root.level, logging.getLogger("uvicorn.access").disabled
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = disabled


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    log.info("committed", messages=3)
    log.debug("not told")

    [line] = lines(capsys)
    assert (line["event"], line["messages"], line["level"], line["logger"]) == ("committed", 3, "info", "mim.test")
    assert str(line["timestamp"]).endswith("Z")


def test_private_values_are_masked_at_any_depth(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    log.info("oops", phone="+821012345678", push_token="t0k", frames=[{"Body": "hello", "seq": 1}])
    logging.getLogger("other").warning("old style %s", "line", extra={"token": "t0k"})

    first, second = lines(capsys)
    assert (first["phone"], first["push_token"]) == (logs.MASK, logs.MASK)
    assert first["frames"] == [{"Body": logs.MASK, "seq": 1}]
    assert second["event"] == "old style line"
    assert "t0k" not in json.dumps([first, second])


def test_a_traceback_stays_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    try:
        raise ValueError("broken")
    except ValueError as exc:
        log.warning("failed", exc_info=exc)
        logging.getLogger("asyncpg").exception("failed too")

    assert all("ValueError: broken" in str(line["exception"]) for line in lines(capsys))


def test_libraries_speak_through_the_same_handler(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("debug", "json")
    logging.getLogger("uvicorn.error").info("Started")
    logging.getLogger("uvicorn.access").info("GET /v1/ws?token=t0k")
    logging.getLogger("websockets.server").debug("< TEXT hello")

    assert [line["event"] for line in lines(capsys)] == ["Started"]


def test_text_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "auto", dev=True)
    log.info("listening", port=8080)

    assert "listening" in (told := capsys.readouterr().err)
    assert "port=8080" in told
    assert not told.startswith("{")
