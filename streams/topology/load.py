"""Topology files → checked topologies. All faults of all files come at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from streams.topology.check import check_source
from streams.topology.findings import Finding, TopologyError
from streams.topology.manifest import verify
from streams.topology.plan import Plan
from streams.topology.source import MAX_BYTES, Source, read_source
from streams.topology.types import StageTypes


@dataclass(frozen=True)
class Topology:
    """A file that passed the checker."""

    plan: Plan
    path: Path
    warnings: tuple[Finding, ...] = ()
    whole: bool = True
    """Every stage type is on this machine; else the plan is not as one that has them makes it."""


@dataclass(frozen=True)
class ReadFile:
    """A file that was read, to be loaded once."""

    path: Path
    source: Source | None
    findings: tuple[Finding, ...] = ()
    """Why there is no source."""


def read_files(paths: Iterable[str | Path]) -> list[ReadFile]:
    """What the files say: for `plugin_callables` and then `load_files`, since reading a large file
    takes longer than checking it."""
    return [_read(path) for path in paths]


def load_file(path: str | Path, types: StageTypes | None = None) -> Topology:
    """The topology in the file; raises TopologyError."""
    return load_files([path], types)[0]


def load_files(
    files: Iterable[str | Path | ReadFile], types: StageTypes | None = None
) -> list[Topology]:
    """The topologies in the order given; raises TopologyError with the findings of all files."""
    loaded: list[Topology] = []
    findings: list[Finding] = []
    names: dict[str, str] = {}
    for file in map(_read, files):
        path = file.path
        findings.extend(file.findings)
        if file.source is None:
            continue
        plan, found = check_source(file.source, types)
        findings.extend(found)
        if plan is None:
            continue
        key = f"{plan.pipeline.lower()} version {plan.version}"
        if key in names:
            message = f"`{plan.pipeline}` version {plan.version} is also in {names[key]}"
            findings.append(Finding("T111", message, str(path), hint="rename one of them"))
        names[key] = str(path)
        try:
            verify(plan, path)
        except TopologyError as error:
            findings.extend(error.findings)
        loaded.append(Topology(plan, path, tuple(found)))
    if any(finding.severity == "error" for finding in findings):
        raise TopologyError(findings)
    return loaded


def plugin_callables(files: Iterable[str | Path | ReadFile]) -> list[str]:
    """`module:name` of the registrations that the files bring, each once; faults are left for
    `load_files`, which needs the registrations to be there."""
    found: dict[str, None] = {}
    for file in map(_read, files):
        root = file.source.root if file.source is not None else None
        values = root.plain() if root else None
        plugins = values.get("plugins") if isinstance(values, dict) else None
        stages = plugins.get("stages") if isinstance(plugins, dict) else None
        for entry in stages if isinstance(stages, list) else ():
            target = entry.get("callable") if isinstance(entry, dict) else None
            if isinstance(target, str):
                found[target] = None
    return list(found)


def _read(file: str | Path | ReadFile) -> ReadFile:
    if isinstance(file, ReadFile):
        return file
    findings: list[Finding] = []
    path = Path(file)
    text = _text(path, findings)
    source = None if text is None else read_source(text, str(path))
    return ReadFile(path, source, tuple(findings))


def _text(path: Path, findings: list[Finding]) -> str | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        findings.append(Finding("T119", f"cannot read the file: {error.strerror}", str(path)))
        return None
    if len(data) > MAX_BYTES:
        message = f"the file is larger than {MAX_BYTES // 1024} KiB"
        findings.append(Finding("T119", message, str(path)))
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        start = data.rfind(b"\n", 0, error.start) + 1
        text = data[start : error.start + 40].decode("utf-8", "replace").splitlines()[0]
        message = f"byte {error.start + 1} is not UTF-8"
        column = error.start - start + 1
        findings.append(
            Finding("T119", message, str(path), line, column, 1, text, "save the file as UTF-8")
        )
        return None
