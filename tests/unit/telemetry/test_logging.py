"""Logs are JSON, and hold no secrets."""

import io
import json
import logging
import warnings

import pytest
import structlog

from trackdesk_worker.telemetry.logging import configure_logging


@pytest.fixture
def stream():
    root = logging.getLogger()
    kept = root.handlers[:], root.level
    yield io.StringIO()
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers[:], root.level = kept
    for name in ("httpx", "httpcore", "pyreqwest"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_object_with_time_level_and_logger(stream):
    configure_logging("info", stream=stream)
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


def test_lines_of_libraries_are_json_too_and_written_once(stream):
    own = logging.getLogger("uvicorn.error")
    own.addHandler(logging.StreamHandler(stream))
    own.propagate = False
    configure_logging("info", stream=stream)
    configure_logging("info", stream=stream)
    own.warning("%s is late", "the answer")

    (event,) = lines(stream)
    assert (event["event"], event["level"], event["logger"]) == ("the answer is late", "warning", "uvicorn.error")


def test_credentials_in_addresses_are_hidden_wherever_they_stand(stream):
    configure_logging("info", stream=stream)
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
def test_values_under_the_name_of_a_secret_are_hidden(stream, name):
    configure_logging("info", stream=stream)
    structlog.get_logger().info("started", **{name: "k-123", "headers": {name: "k-123"}})

    assert "k-123" not in stream.getvalue()


def test_request_lines_of_the_http_client_never_appear(stream):
    configure_logging("debug", stream=stream)
    logging.getLogger("httpx").info("HTTP Request: GET https://a.example/?customerId=jane")

    assert stream.getvalue() == ""


def test_warnings_are_logged(stream):
    configure_logging("info", stream=stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old ways", DeprecationWarning, stacklevel=1)

    assert "old ways" in lines(stream)[0]["event"]
