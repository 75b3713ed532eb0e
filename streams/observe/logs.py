"""Logs: an event name plus fields; JSON lines for machines, colours on a terminal.

structlog is loaded by the first line that is logged or by `configure`, not by importing this.
Fields bound with `bound` (pipeline, stage, event_id, correlation_id, trace_id) stand on every
line of the block and of the tasks it starts. Every text passes the redactors before it is written.
What stages log (`ctx.log`, the standard library's `streams.…` loggers) comes out the same way,
its fields as fields.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO, cast

from streams.clock import Clock, SystemClock
from streams.settings import Settings

Redactor = Callable[[str], str]
"""Text in, text with its secrets masked out."""

_redactors: list[Redactor] = []
_ready = False


class Logger(Protocol):
    """What code may do with a logger; the first argument is the event's name, lower_snake."""

    def debug(self, event: str, /, **fields: Any) -> None: ...
    def info(self, event: str, /, **fields: Any) -> None: ...
    def warning(self, event: str, /, **fields: Any) -> None: ...
    def error(self, event: str, /, **fields: Any) -> None: ...

    def exception(self, event: str, /, **fields: Any) -> None:
        """As `error`, with the exception being handled."""


def add_redactor(redactor: Redactor) -> None:
    """From now on every text of every line passes through it; adding it again changes nothing."""
    if redactor not in _redactors:
        _redactors.append(redactor)


def remove_redactor(redactor: Redactor) -> None:
    """It is asked no more."""
    if redactor in _redactors:
        _redactors.remove(redactor)


def redact(value: Any) -> Any:
    """The value with every text in it redacted. A redactor that fails hides the text whole."""
    if isinstance(value, str):
        try:
            for redactor in _redactors:
                value = redactor(value)
        except Exception:  # noqa: BLE001 - must neither leak a secret nor stop the worker
            return "[redaction failed]"
        return value
    if isinstance(value, Mapping):
        return {redact(key): redact(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redact(item) for item in value]
    return value if isinstance(value, (bool, int, float, type(None))) else redact(str(value))


def configure(
    settings: Settings, *, stream: TextIO | None = None, clock: Clock | None = None
) -> None:
    """Afterwards every logger, old or new, writes to `stream` (default: stderr) as settings say."""
    import structlog

    out = stream or sys.stderr
    ticker = clock or SystemClock()
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not out.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _stamp(ticker),
            structlog.processors.format_exc_info,
            _redact_line,
            structlog.processors.JSONRenderer(ensure_ascii=False)
            if as_json
            else structlog.dev.ConsoleRenderer(
                colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    _bridge_standard_logging(settings.log_level)
    global _ready
    _ready = True


def get_logger(name: str) -> Logger:
    """A logger whose lines carry `logger=name`. Costs nothing until its first line."""
    return cast("Logger", _LazyLogger(name))


def shows(level: str) -> bool:
    """Whether lines of that level are written: for what is worth a look only then."""
    return logging.getLogger("streams").isEnabledFor(logging.getLevelName(level.upper()))


def bound(**fields: Any) -> AbstractContextManager[Any]:
    """Inside the block these fields stand on every line, also in tasks started there."""
    import structlog

    return structlog.contextvars.bound_contextvars(**fields)


class _LazyLogger:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, level: str) -> Any:
        import structlog

        if not _ready:
            configure(Settings())
        return getattr(structlog.get_logger().bind(logger=self._name), level)


_OURS = frozenset(
    {"self", "level", "event", "logger", "time", "exc_info", "exception", "stack_info"}
)
"""Names that a line's own fields have; those of others get an underscore."""


class _Bridge(logging.Handler):
    """Hands lines of the standard library's loggers on, with their level and logger."""

    def emit(self, record: logging.LogRecord) -> None:
        import structlog

        event, fields = getattr(record, "event_and_fields", (record.getMessage(), {}))
        apart = {f"{name}_" if name in _OURS else name: value for name, value in fields.items()}
        logger = structlog.get_logger().bind(logger=record.name)
        logger.log(record.levelno, event, exc_info=record.exc_info, **apart)


_bridge = _Bridge()


def _bridge_standard_logging(level: str) -> None:
    ours = logging.getLogger("streams")
    ours.setLevel(level.upper())
    if _bridge not in ours.handlers:
        ours.addHandler(_bridge)


def _stamp(
    clock: Clock,
) -> Callable[[Any, str, MutableMapping[str, Any]], MutableMapping[str, Any]]:
    def stamp(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        moment = datetime.fromtimestamp(clock.now() / 1000, UTC)
        line["time"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return line

    return stamp


def _redact_line(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {field: redact(value) for field, value in line.items()}
