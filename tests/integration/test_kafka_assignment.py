"""Other ways to share partitions than `range`: single ones move, or the broker says who has what."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes.site import Site
from tests.processes.test_faults import test_killed_workers_and_keepers_lose_and_double_nothing
from tests.processes.test_flow import test_every_job_passes_every_stage_once

__all__ = [
    "test_every_job_passes_every_stage_once",
    "test_killed_workers_and_keepers_lose_and_double_nothing",
]
pytestmark = pytest.mark.processes

OPTIONS = {
    "cooperative": {"partition.assignment.strategy": "cooperative-sticky"},
    "the broker assigns": {"group.protocol": "consumer"},
    "no seats": {"streams.static": False, "session.timeout.ms": 7_000},
}


@pytest.fixture(params=OPTIONS)
async def site(tmp_path: Path, kafka: str, request: Any) -> AsyncIterator[Any]:
    """Two processes of agents and the keeper in a third, with these options of the client."""
    options = {"bootstrap": kafka, "options": OPTIONS[request.param]}
    space = f"site-{uuid.uuid4().hex[:8]}"
    made = Site(tmp_path, f"namespace: {space}\nkafka: {json.dumps(options)}\n")
    yield made
    await made.close()
