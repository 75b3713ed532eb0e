"""One folder of pipelines a test, and no process left behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes.site import Site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Any]:
    made = Site(tmp_path)
    yield made
    await made.close()
