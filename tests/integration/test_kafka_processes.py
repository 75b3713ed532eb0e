"""What several processes do on a real Kafka: the tests of tests/processes, all but a few, with
another log under them. Two processes of agents, or more, and the keeper in a third."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import (
    test_faults,
    test_flow,
    test_gate_storm,
    test_priority,
    test_shapes,
    test_workers,
)
from tests.processes.site import Site

pytestmark = pytest.mark.processes

LEFT_OUT = {
    "test_two_hundred_megabytes_pass_beside_the_log",  # the log sees a reference, whatever its size
    "test_a_document_of_the_source_form_waits_on_metadata_and_resumes",  # about the file's form
    "test_a_retry_verdict_spends_no_attempt",  # to the log the same as a long retry
}


@pytest.fixture
async def site(tmp_path: Path, kafka: str) -> AsyncIterator[Any]:
    """A namespace of its own on the broker that all tests share."""
    settings = f"namespace: site-{uuid.uuid4().hex[:8]}\nkafka: {{bootstrap: '{kafka}'}}\n"
    made = Site(tmp_path, settings)
    yield made
    await made.close()


MODULES = (test_faults, test_flow, test_gate_storm, test_priority, test_shapes, test_workers)
for _module in MODULES:
    for _name, _test in vars(_module).items():
        if _name.startswith("test_") and _name not in LEFT_OUT:
            globals()[_name] = _test
