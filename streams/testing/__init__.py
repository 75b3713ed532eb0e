"""Tests of pipelines: `TopologyTester` runs them whole, in virtual time, without a broker.

    with TopologyTester("ingest.yaml") as t:
        t.submit(id="doc-1", params={"title": "Salt"})
        t.advance(days=2)
        assert t.held("review") == ["doc-1"]

The public names; each is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streams.testing.tester import TopologyTester as TopologyTester
    from streams.testing.tester_reading import DeadLetter as DeadLetter
    from streams.testing.tester_reading import Held as Held

_HOMES = {
    "DeadLetter": "tester_reading",
    "Held": "tester_reading",
    "TopologyTester": "tester",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """The public name, from the module it lives in."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'streams.testing' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"streams.testing.{home}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
