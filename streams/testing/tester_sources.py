"""What a tester may be given: files, folders, texts, plans and graphs; and the stages for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from streams.authoring.function_stage import stage as stage_of_function
from streams.authoring.registration import StageMetadata, StageRegistration
from streams.errors import NotFoundError, UserError
from streams.pipeline import Pipeline, StageGraph
from streams.plugins import discover, load_plugins
from streams.registry import StageRegistry, is_batch, is_stage_class
from streams.stage import registration_of
from streams.topology.check import check_text
from streams.topology.findings import TopologyError
from streams.topology.load import load_files, plugin_callables
from streams.topology.plan import Plan

Given = str | Path | Plan | Pipeline | StageGraph
"""A file, a folder, a topology's text, a plan, or a pipeline written in Python."""

SETTINGS = ("streams.yaml", "streams.yml")

EXPLANATIONS: dict[str, str] = {
    "U001": """\
**Nothing here that a test could run.** A tester takes a topology file, a folder with some, a
topology's text (with `stages:` in it), a `Plan`, a `Pipeline` or what its `build()` gives, or a
list of these. Next: name an existing file.""",
    "U002": """\
**A stand-in is no stage.** `stages={"type": …}` takes a function, a stage class, an object with
`execute`, a registration, or a plain value to be returned. Next: give one of these.""",
}


class Sources(msgspec.Struct, frozen=True):
    """Plans in the order given, and a registry that knows their stages."""

    plans: tuple[Plan, ...]
    registry: StageRegistry


def read_sources(
    given: Given | Sequence[Given],
    *,
    stages: Mapping[str, Any],
    registry: StageRegistry | None,
) -> Sources:
    """The plans, checked whole. Raises `TopologyError` with every fault, as a worker does."""
    wanted: list[Given] = list(given) if isinstance(given, list | tuple) else [given]  # type: ignore[list-item]
    graphs = [each.build() if isinstance(each, Pipeline) else each for each in wanted]
    files = [path for each in graphs if isinstance(each, str | Path) for path in _files(each)]
    known = registry if registry is not None else _registry(files)
    for graph in graphs:
        if isinstance(graph, StageGraph):
            for made in graph.registry.stages.values():
                known.register(made, replace=True)
    for name, stand_in in stages.items():
        known.register(_registration(name, stand_in), replace=True)
    loaded = iter(load_files(files, known))
    plans: list[Plan] = []
    for each in graphs:
        if isinstance(each, StageGraph):
            plans.append(each.plan)
        elif isinstance(each, Plan):
            plans.append(each)
        elif _is_text(each):
            plans.append(_of_text(str(each), known))
        else:
            plans += [next(loaded).plan for _ in _files(each)]
    return Sources(tuple(plans), known)


def _registry(files: Iterable[Path]) -> StageRegistry:
    """The built-in stages, those of installed plugins, and those beside the files."""
    paths = list(files)
    registry = StageRegistry()
    discover(registry)
    roots = sorted({path.resolve().parent for path in paths})
    load_plugins(registry, plugin_callables(paths), roots=roots)
    return registry


def _is_text(given: str | Path) -> bool:
    return isinstance(given, str) and ("\n" in given or "stages:" in given)


def _files(given: str | Path) -> list[Path]:
    if _is_text(given):
        return []
    path = Path(given)
    if path.is_file():
        return [path]
    found = topology_files(path) if path.is_dir() else []
    if not found:
        what = "no topology in the folder" if path.is_dir() else "no file or folder"
        raise NotFoundError(
            f"{what} {path}",
            code="U001",
            help="give a topology file, a folder with some, a text, a Plan or a Pipeline",
        )
    return found


def topology_files(folder: Path) -> list[Path]:
    """The topologies of a folder: its YAML files without settings and tests."""
    return sorted(
        path
        for path in (*folder.glob("*.yaml"), *folder.glob("*.yml"))
        if path.name not in SETTINGS and ".test." not in path.name
    )


def _of_text(text: str, registry: StageRegistry) -> Plan:
    plan, findings = check_text(text, "topology", registry)
    if plan is None:
        raise TopologyError(findings)
    return plan


def _registration(name: str, stand_in: Any) -> StageRegistration:
    """Whatever stands in for the stages of a type."""
    if isinstance(stand_in, StageRegistration):
        return _named(name, stand_in)
    if is_stage_class(stand_in):
        return _named(name, registration_of(stand_in))
    if isinstance(stand_in, type):
        raise UserError(
            f"the stand-in for `{name}` is the class {stand_in.__name__}, which is no stage",
            code="U002",
            help="give a function, a stage class or object, or a plain value to be returned",
        )
    if callable(getattr(stand_in, "execute", None)) or is_batch(stand_in):
        return StageRegistration(StageMetadata(stage_type=name), lambda _: stand_in)
    if callable(stand_in):
        return stage_of_function(type=name)(stand_in)
    return stage_of_function(type=name)(lambda: stand_in)


def _named(name: str, registration: StageRegistration) -> StageRegistration:
    """The registration under the name of the type it stands in for."""
    metadata = dataclasses.replace(registration.metadata, stage_type=name)
    return dataclasses.replace(registration, metadata=metadata)
