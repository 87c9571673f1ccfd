"""Logs are JSON, and hold no secrets."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from trackdesk_worker.telemetry.log_writer import WHOLE_BYTES
from trackdesk_worker.telemetry.logging import BufferedLog, buffered_log, configure_logging


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    kept = root.handlers[:], root.level
    yield io.StringIO()
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers[:], root.level = kept
    for name in ("httpx", "httpcore", "pyreqwest"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_object_with_time_level_and_logger(stream: io.StringIO) -> None:
    configure_logging("info", stream)
    structlog.get_logger("trackdesk.delivery").info("delivery.attempt", tenant="acme", status=503)
    structlog.get_logger().debug("too.low")

    (event,) = lines(stream)
    assert event.pop("time").endswith("Z")
    assert event == {
        "event": "delivery.attempt",
        "level": "info",
        "logger": "trackdesk.delivery",
        "status": 503,
        "tenant": "acme",
    }


def test_lines_of_libraries_are_json_too_and_written_once(stream: io.StringIO) -> None:
    own = logging.getLogger("uvicorn.error")
    own.addHandler(logging.StreamHandler(stream))
    own.propagate = False
    configure_logging("info", stream)
    configure_logging("info", stream)
    own.warning("%s is late", "the answer")

    (event,) = lines(stream)
    assert (event["event"], event["level"], event["logger"]) == ("the answer is late", "warning", "uvicorn.error")


def test_credentials_in_addresses_are_hidden_wherever_they_stand(stream: io.StringIO) -> None:
    configure_logging("info", stream)
    log = structlog.get_logger()
    log.info("store.away", detail="redis://worker:hunter2@store:6379/0 refused", parts=[{"url": "rediss://:hunter2@h"}])
    logging.getLogger("kombu").error("lost %s", "redis://:hunter2@store/1")
    try:
        raise ConnectionError("redis://:hunter2@store:6379")
    except ConnectionError:
        log.exception("store.failed")
        logging.getLogger("celery").exception("failed")

    assert "hunter2" not in stream.getvalue()
    assert lines(stream)[0]["detail"] == "redis://***@store:6379/0 refused"
    assert len(lines(stream)) == 4


@pytest.mark.parametrize("name", ["api_key", "X-Api-Key", "authorization", "redis_password", "client_secret"])
def test_values_under_the_name_of_a_secret_are_hidden(stream: io.StringIO, name: str) -> None:
    configure_logging("info", stream)
    structlog.get_logger().info("started", **{name: "k-123", "headers": {name: "k-123"}})

    assert "k-123" not in stream.getvalue()


def test_request_lines_of_the_http_client_never_appear(stream: io.StringIO) -> None:
    configure_logging("debug", stream)
    logging.getLogger("httpx").info("HTTP Request: GET https://a.example/?customerId=jane")

    assert stream.getvalue() == ""


def test_warnings_are_logged(stream: io.StringIO) -> None:
    configure_logging("info", stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old ways", DeprecationWarning, stacklevel=1)

    assert "old ways" in lines(stream)[0]["event"]


def test_the_buffered_log_writes_the_same_lines_as_structlog_when_it_is_flushed(stream: io.StringIO) -> None:
    configure_logging("info", stream)
    fields = {"tenant": "acme", "status": None, "ambiguous": False, "external_id": "Zo\xeb \u2028\n", "ms": 1.5}
    structlog.get_logger("trackdesk.delivery").info("delivery.attempt", **fields)
    (expected,) = lines(stream)
    log = buffered_log("trackdesk.delivery")
    log.info("delivery.attempt", **fields)

    assert len(lines(stream)) == 1
    log.flush()
    log.flush()
    written, now = lines(stream)[1], datetime.now(UTC)
    assert now - timedelta(minutes=1) < datetime.fromisoformat(written.pop("time")) <= now
    expected.pop("time")
    assert written == expected
    assert len(lines(stream)) == 2


def test_the_buffered_log_keeps_the_level(stream: io.StringIO) -> None:
    configure_logging("warning", stream)
    log = buffered_log("trackdesk.delivery")
    log.info("delivery.attempt")
    log.flush()

    assert stream.getvalue() == ""


def test_the_buffered_log_hides_credentials_too(stream: io.StringIO) -> None:
    configure_logging("info", stream)
    log = buffered_log("trackdesk.delivery")
    log.info("delivery.attempt", external_id="redis://worker:hunter2@store/0", note="jane@example.com")
    log.flush()

    (event,) = lines(stream)
    assert (event["external_id"], event["note"]) == ("redis://***@store/0", "jane@example.com")


def test_lines_reach_a_shared_pipe_whole() -> None:
    written: list[str] = []
    log = BufferedLog("trackdesk.delivery", written.append)
    for number in range(100):
        log.info("delivery.attempt", number=number, fill="x" * 300)
    log.info("delivery.attempt", number=100, fill="x" * 10_000)
    log.flush()

    assert [json.loads(line)["number"] for part in written for line in part.split("\n")] == list(range(101))
    assert all(len(part) < WHOLE_BYTES for part in written[:-1])
    assert len(written) < 20
