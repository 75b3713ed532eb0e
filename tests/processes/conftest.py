"""One folder of pipelines a test, and no process left behind."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

_spec = importlib.util.spec_from_file_location("process_site", Path(__file__).parent / "site.py")
assert _spec is not None
assert _spec.loader is not None
process_site = importlib.util.module_from_spec(_spec)
sys.modules["process_site"] = process_site
_spec.loader.exec_module(process_site)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Any]:
    made = process_site.Site(tmp_path)
    yield made
    await made.close()
