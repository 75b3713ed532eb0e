"""Log lines of a test: errors only, unless the process has its own mind about logs."""

from __future__ import annotations

import io
import sys
from typing import TextIO, cast

import msgspec

from streams.observe import logs
from streams.settings import Settings


class _Stderr(io.TextIOBase):
    """Whatever `sys.stderr` is at the moment: test runners put another one there for each test."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def quiet() -> None:
    """Workers of a test do not tell of every partition they take; they tell of errors."""
    import structlog

    if not structlog.is_configured():
        settings = msgspec.structs.replace(Settings(), log_level="error")
        logs.configure(settings, stream=cast("TextIO", _Stderr()))
