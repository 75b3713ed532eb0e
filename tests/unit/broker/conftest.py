"""A log in memory under a clock that moves when told, and one in a file."""

import pytest
import pytest_asyncio

from streams.broker.local import LocalLog
from streams.broker.port import TopicSpec
from streams.clock import ManualClock, SystemClock


@pytest.fixture
def clock():
    return ManualClock()


@pytest_asyncio.fixture
async def log(clock):
    log = LocalLog.open(None, clock=clock)
    await log.create_topics([TopicSpec("t", 2), TopicSpec("c", 1, "compact")])
    yield log
    await log.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "log.db"


@pytest_asyncio.fixture
async def file_log(path):
    log = LocalLog.open(path, clock=SystemClock())
    await log.create_topics([TopicSpec("t", 2), TopicSpec("c", 1, "compact")])
    yield log
    await log.close()
