"""Logs: an event name plus fields, one JSON line each off a terminal, redacted."""

import asyncio
import io
import json
import logging

import pytest

from streams.clock import ManualClock
from streams.observe import logs
from streams.settings import Settings


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def out():
    """JSON lines as they are written, with the time of a clock that stands still."""
    stream = io.StringIO()
    logs.configure(Settings(), stream=stream, clock=ManualClock(1_800_000_000_123))
    yield stream
    logs.configure(Settings())


@pytest.fixture
def masked():
    """A redactor that knows one secret."""

    def mask(text: str) -> str:
        return text.replace("hunter2", "***")

    logs.add_redactor(mask)
    yield
    logs.remove_redactor(mask)


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_the_event_its_level_its_logger_and_its_fields(out):
    """Machines read these; the clock is the one handed in."""
    logs.get_logger("runtime.worker").info("worker_started", pipeline="demo", partitions=4)

    assert lines(out) == [
        {
            "event": "worker_started",
            "level": "info",
            "logger": "runtime.worker",
            "partitions": 4,
            "pipeline": "demo",
            "time": "2027-01-15T08:00:00.123Z",
        }
    ]


def test_a_logger_made_before_configure_obeys_it(out):
    """Modules make theirs when they are imported."""
    early = logs.get_logger("early")
    second = io.StringIO()
    logs.configure(Settings(log_level="error"), stream=second)

    early.warning("too_quiet")
    early.error("loud_enough")

    assert out.getvalue() == ""
    assert [line["event"] for line in lines(second)] == ["loud_enough"]


async def test_bound_fields_stand_on_every_line_of_the_block_and_its_tasks(out):
    """CF-1: pipeline, stage, event_id and the like are bound once a message."""
    logger = logs.get_logger("x")

    async def child():
        logger.info("inner")

    with logs.bound(stage="parse", event_id="e1"):
        await asyncio.create_task(child())
    logger.info("outer")

    assert [(line["event"], line.get("stage")) for line in lines(out)] == [
        ("inner", "parse"),
        ("outer", None),
    ]


def test_secrets_are_masked_in_fields_nested_values_and_tracebacks(out, masked):
    """CE-8: a secret must not reach a log, wherever it hides."""
    try:
        raise ValueError("password hunter2 refused")
    except ValueError as error:
        logs.get_logger("x").exception("login", url="u:hunter2@h", tree={"a": ["hunter2"]}, e=error)

    assert "hunter2" not in out.getvalue()
    [line] = lines(out)
    assert line["url"] == "u:***@h"
    assert line["tree"] == {"a": ["***"]}
    assert "ValueError: password *** refused" in line["exception"]


def test_a_redactor_that_fails_hides_the_text_and_loses_no_line(out):
    """Neither a leak nor a dead worker."""

    def broken(text: str) -> str:
        raise RuntimeError(text)

    logs.add_redactor(broken)
    try:
        logs.get_logger("x").info("hello", count=3)
    finally:
        logs.remove_redactor(broken)

    [line] = lines(out)
    assert line["event"] == "[redaction failed]"
    assert line["count"] == 3


def test_a_terminal_gets_words_and_a_pipe_gets_json():
    """`auto`, and both forced."""
    for log_format, stream, is_json in [
        ("auto", io.StringIO(), True),
        ("auto", Terminal(), False),
        ("json", Terminal(), True),
        ("console", io.StringIO(), False),
    ]:
        logs.configure(Settings(log_format=log_format), stream=stream)
        logs.get_logger("x").info("hello")

        assert stream.getvalue().startswith("{") is is_json
    logs.configure(Settings())


def test_what_a_stage_logs_comes_out_the_same_way(out, masked):
    """`ctx.log` writes to the standard library's logger `streams.stage`."""
    logging.getLogger("streams.stage").warning("asked with %s", "hunter2")
    logging.getLogger("streams.stage").debug("too quiet")

    [line] = lines(out)
    assert (line["event"], line["level"], line["logger"]) == (
        "asked with ***",
        "warning",
        "streams.stage",
    )
