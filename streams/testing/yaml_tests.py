"""`*.test.yaml` files: found, read strictly, checked against the topology they name.

Nothing runs before the whole file makes sense: an unknown key, a stage that the topology does not
have or a stand-in for a type that nobody uses is a finding with file, line and column.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
from pydantic import ValidationError

from streams.errors import NotFoundError
from streams.outcome import Fail, Skip
from streams.testing.tester_sources import Sources, read_sources
from streams.testing.yaml_tests_files import is_ours
from streams.testing.yaml_tests_model import (
    CaseModel,
    ExpectModel,
    FileModel,
    GivenModel,
    StandInModel,
)
from streams.topology.findings import TopologyError, did_you_mean, listed
from streams.topology.model import Grammar
from streams.topology.source import Path as Place
from streams.topology.source import Source, read_source

SKIPPED = frozenset({"node_modules", "__pycache__", "venv"})

EXPLANATIONS: dict[str, str] = {
    "U101": """\
**Not a file of tests.** It is a mapping with `topology:` (the pipeline's file, beside this one)
and `tests:` (a list), both required. Next: compare with the demo of `streams init`.""",
    "U102": """\
**An unknown key in a test file.** A key that means nothing would be a check that is never made.
Next: take the key that the message names.""",
    "U103": """\
**A value of the wrong kind.** The message says what is expected at this place.""",
    "U104": """\
**Exactly one key here.** A step is one thing that happens (`submit:`, `advance:`, `expect:`, …) and
a stand-in has one answer (`returns:`, `raises:` or `skips:`). Next: make two of it.""",
    "U105": """\
**The topology has no such stage, gate or type.** Checked before anything runs, since a check on
something that is not there might hold for ever. Next: the name that the message proposes.""",
    "U106": """\
**The topology is not there.** `topology:` names a file or folder beside the test file.""",
    "U107": """\
**No tests found.** `streams test` looks for `*.test.yaml` under the paths given, else under this
folder. Next: write one beside the topology; `streams init` shows how.""",
}

_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


class TestFileError(TopologyError):
    """A test file with faults, all of them."""

    __test__ = False


class TestFile(msgspec.Struct, frozen=True):
    """A file that makes sense."""

    __test__ = False

    path: Path
    topology: Path
    source: Source
    model: FileModel

    def given(self, number: int) -> GivenModel:
        """What holds before a test: the file's own words, and the test's where both speak."""
        whole, own = self.model.given, self.model.tests[number].given
        return GivenModel(
            stages={**whole.stages, **own.stages},
            facts={**whole.facts, **own.facts},
            secrets={**whole.secrets, **own.secrets},
        )

    def line(self, number: int) -> int:
        """Where a test begins."""
        return self.source.line_of(("tests", number))


def find_test_files(paths: Iterable[Path]) -> list[Path]:
    """The test files among and below these, sorted. Raises `NotFoundError` where there are none."""
    found: dict[Path, None] = {}
    asked = list(paths)
    for path in asked:
        if path.is_file():
            found[path] = None
        elif path.is_dir():
            found.update(dict.fromkeys(_below(path)))
        else:
            raise NotFoundError(f"no file or folder {path}", code="U107")
    if not found:
        where = ", ".join(map(str, asked))
        raise NotFoundError(
            f"no *.test.yaml in {where}", code="U107", help="write one beside the topology"
        )
    return sorted(found)


def _below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if not path.name.startswith(".") and path.name not in SKIPPED:
                yield from _below(path)
        elif is_ours(path):
            yield path


def read_test_file(path: Path) -> TestFile:
    """The file, checked whole. Raises `TestFileError`, or `TopologyError` for its topology."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFoundError(f"cannot read {path}: {error}", code="U107") from None
    source = read_source(text, str(path))
    model = _fit(source)
    _stop_at_faults(source)
    assert model is not None
    topology = path.parent / model.topology
    if not topology.exists():
        here = [p.name for p in path.parent.glob("*.y*ml") if ".test." not in p.name]
        hint = did_you_mean(model.topology, here, "files here")
        source.fault("U106", f"there is no {model.topology} beside this file", ("topology",), hint)
    _stop_at_faults(source)
    file = TestFile(path, topology, source, model)
    for number, case in enumerate(model.tests):
        _Names(source, model.given, sources_of(file, number)).check(case, number)
    _stop_at_faults(source)
    return file


def sources_of(file: TestFile, number: int) -> Sources:
    """The topology with the stand-ins of a test."""
    return read_sources(file.topology, stages=stand_ins(file.given(number)), registry=None)


def stand_ins(given: GivenModel) -> dict[str, Any]:
    """Type → function that answers as the test says."""
    return {name: _stand_in(model) for name, model in given.stages.items()}


def _stand_in(model: StandInModel) -> Any:
    answer: Any = model.returns
    if model.raises is not None:
        answer = Fail(model.raises, retriable=model.retriable)
    elif model.skips is not None:
        answer = Skip(model.skips)
    return lambda: answer


def _stop_at_faults(source: Source) -> None:
    if source.faults:
        raise TestFileError(source.findings)


# ── Form ─────────────────────────────────────────────────────────────────────────────────────────


def _fit(source: Source) -> FileModel | None:
    root = source.root
    if root is None or root.keys is None:
        if not source.findings:
            hint = "write `topology: FILE` and `tests:`"
            source.fault("U101", "a test file is a mapping", (), hint)
        return None
    try:
        return FileModel.model_validate(root.plain())
    except ValidationError as error:
        for detail in error.errors():
            _explain(source, detail)
        return None


def _explain(source: Source, detail: Any) -> None:
    kind, context = detail["type"], detail.get("ctx", {})
    # A status may be written short or long; pydantic names the way it took.
    path: Place = tuple(s for s in detail["loc"] if s not in _WAYS)
    field = f"`{path[-1]}`" if path and isinstance(path[-1], str) else "this"
    if kind[0] in "TU" and kind[1:].isdigit():
        source.fault(kind, context["message"], path, context["hint"])
    elif kind == "extra_forbidden":
        known = _fields_at(path[:-1])
        hint = did_you_mean(str(path[-1]), known, "keys here")
        notes = (f"keys here: {listed(known)}",) if hint.startswith("did") else ()
        source.fault(
            "U102", f"unknown key {field}{_in(source, path)}", path, hint, key=True, notes=notes
        )
    elif kind == "missing":
        code = "U101" if len(path) == 1 else "U103"
        source.fault(code, f"{field} is missing{_in(source, path)}", path)
    elif kind in ("model_type", "dict_type") and detail["loc"][-1] in _WAYS:
        pass  # said by the short way already
    elif kind in _KINDS:
        source.fault("U103", f"{field} must be {_KINDS[kind]}{_in(source, path)}", path)
    elif kind == "literal_error":
        words = re.findall(r"'([^']+)'", context["expected"])
        given = detail["input"]
        hint = did_you_mean(str(given), words, "one of") if not isinstance(given, dict) else ""
        if isinstance(given, str):
            source.fault("U103", f"{field}: `{given}` is none of these", path, hint)
    else:
        source.fault("U103", f"{field}: {detail['msg']}", path)


_WAYS = frozenset(
    {
        "JobExpectModel",
        "StageExpectModel",
        "literal['queued','running','waiting','retrying','succeeded','skipped','failed','cancelled']",
    }
)


def _fields_at(path: Place) -> list[str]:
    """The keys that may stand at a place."""
    kind: Any = FileModel
    for step in path:
        kind = _step(kind, step)
    models = [each for each in _alternatives(kind) if _is_model(each)]
    return sorted(models[0].spellings()) if models else []


def _step(kind: Any, step: str | int) -> Any:
    """What stands under a key or index of something of this kind."""
    for each in _alternatives(kind):
        if _is_model(each):
            field = each.model_fields.get(each.SYNONYMS.get(step, step))
            return field.annotation if field else None
        if get_origin(each) in (dict, list):
            return get_args(each)[-1]
    return None


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Grammar)


def _in(source: Source, path: Place) -> str:
    """` in test `x`` for a place inside one."""
    if len(path) < 3 or path[0] != "tests":
        return ""
    entry = source.place((*path[:2], "name"))
    named = entry is not None and isinstance(entry.value, str)
    return f" in test `{entry.value}`" if named and entry is not None else ""


# ── Names ────────────────────────────────────────────────────────────────────────────────────────


class _Names:
    """Looks up every stage, gate and type that a test names."""

    def __init__(self, source: Source, whole: GivenModel, sources: Sources) -> None:
        self._source = source
        self._whole = whole
        parts = [part for plan in sources.plans for part in plan.parts]
        self._stages = {part.path for part in parts} | {part.name for part in parts if part.name}
        self._gates = {part.gate.name for part in parts if part.gate is not None}
        self._types = {part.path: part.type for part in parts if part.kind == "stage"}

    def check(self, case: CaseModel, number: int) -> None:
        """Findings for every name that the topology does not have."""
        at: Place = ("tests", number)
        for place, given in ((("given",), self._whole), ((*at, "given"), case.given)):
            for name in given.stages:
                self._type(name, (*place, "stages", name))
        for n, step in enumerate(case.steps):
            here = (*at, "steps", n, step.kind)
            value = getattr(step, step.kind)
            if step.kind in ("fail_next", "crash_before_commit", "pause", "resume"):
                self._stage(value.stage if value else None, (*here, "stage"))
            elif step.kind in ("release", "reject"):
                self._place(value.gate, (*here, "gate"))
            elif step.kind == "retry":
                self._stage(value.start, (*here, "from"))
            elif step.kind == "expect":
                self._expect(value, here)
        if case.expect is not None:
            self._expect(case.expect, (*at, "expect"))

    def _expect(self, expect: ExpectModel, at: Place) -> None:
        for stage in expect.outputs:
            self._stage(stage, (*at, "outputs", stage))
        for where in expect.held:
            self._place(where, (*at, "held", where))
        for job, model in expect.jobs.items():
            if isinstance(model, str):
                continue
            for stage in model.stages:
                self._stage(stage, (*at, "jobs", job, "stages", stage))
            self._stage(model.at, (*at, "jobs", job, "at"))

    def _stage(self, name: str | None, at: Place) -> None:
        if name is not None and name not in self._stages:
            self._fault(f"no stage `{name}` in the topology", at, name, self._stages)

    def _place(self, name: str, at: Place) -> None:
        known = self._stages | self._gates
        if name not in known:
            self._fault(f"no stage or gate `{name}` in the topology", at, name, known)

    def _type(self, name: str, at: Place) -> None:
        if name in self._types.values():
            return
        told = f"no stage of the topology has the type `{name}`"
        if name in self._types:
            told += f"; the stage `{name}` is of type `{self._types[name]}`"
        self._fault(told, at, name, set(self._types.values()))

    def _fault(self, message: str, at: Place, name: str, known: set[str]) -> None:
        if any(f.message == message for f in self._source.findings):
            return
        hint = did_you_mean(name, known, "there are")
        self._source.fault("U105", message, at, hint, key=at[-1] == name)
