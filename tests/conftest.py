"""What every test gets: a clean environment, and a guard around the pure engine."""

import logging
import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.architecture.purity import pure_engine

ROOT = Path(__file__).parent.parent
PURE = (Path("tests/unit/engine"), Path("tests/simulation"))

# Two shared cores make a single slow example say nothing about the code; the examples are drawn
# anew in each run, and pytest-randomly prints the seed that repeats them.
settings.register_profile("suite", deadline=None, print_blob=True)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    """A developer's own STREAMS_… variables change no result."""
    for name in list(os.environ):
        if name.startswith("STREAMS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture(autouse=True)
def _log_lines_reach_caplog(monkeypatch):
    """Whoever configured the logs before, in whatever order the tests run."""
    logger = logging.getLogger("streams")
    monkeypatch.setattr(logger, "propagate", True)
    before = logger.level
    logger.setLevel(logging.NOTSET)
    yield
    logger.setLevel(before)


@pytest.fixture(autouse=True)
def _engine_stays_pure(request):
    """In the engine's own suites, a clock, file, socket or random number it asks for is a failure."""
    place = Path(request.node.path).relative_to(ROOT)
    if any(place.is_relative_to(folder) for folder in PURE):
        with pure_engine():
            yield
    else:
        yield
