"""Pipelines of which a worker serves a part: what the other parts need may be on other machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from streams.topology.findings import TopologyError
from streams.topology.load import ReadFile, Topology, load_files
from streams.topology.plan import USER_CODE, Part
from streams.topology.types import StageTypes

_ELSEWHERE = frozenset({"T105", "T121", "T127"})
"""Codes that say no more than that a stage type, function or plugin is not on this machine."""


def load_served(
    files: Sequence[ReadFile], types: StageTypes, serves: Callable[[Part], bool]
) -> list[Topology]:
    """As `load_files`; but what only parts need that are not served may be missing here. Such a
    topology is not `whole`: its plan is not for this machine to make."""
    try:
        return load_files(files, types)
    except TopologyError as error:
        if any(each.code not in _ELSEWHERE for each in error.findings if each.severity == "error"):
            raise
        lacking = {each.file for each in error.findings if each.severity == "error"}
        loaded = load_files([file.path for file in files])  # a source is checked only once
        here = _Here(types)
        served = [part for each in loaded for part in each.plan.parts if serves(part)]
        if not all(here.has(part) for part in served):
            raise
        return [replace(each, whole=str(each.path) not in lacking) for each in loaded]


class _Here:
    """What this machine has."""

    def __init__(self, types: StageTypes) -> None:
        self._types = frozenset(types.known())
        self._functions = frozenset(types.known_functions())

    def has(self, part: Part) -> bool:
        if part.kind not in USER_CODE:
            return True
        if part.kind == "stage":
            return part.type in self._types
        name, _, version = str(part.uses).partition("@")
        if version in ("", "latest"):
            return any(known.startswith(f"{name}@") for known in self._functions)
        return part.uses in self._functions
