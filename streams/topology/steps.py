"""Stages of a file as steps: each with its id, its kind, and the names others use for it."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any, get_args

from streams.topology.cel_syntax import Read
from streams.topology.durations import HELP, duration_ms
from streams.topology.expressions import OPEN
from streams.topology.findings import did_you_mean
from streams.topology.gates import GateSpec
from streams.topology.model import BUILT_IN, ID_LIMIT, StageModel
from streams.topology.plan import RESERVED_TOPICS, EdgeKind, PartKind
from streams.topology.source import Path, Source

MAX_SLEEP_MS = 1800 * 1000
_KINDS: frozenset[str] = frozenset(get_args(PartKind))
_USES = re.compile(r"[A-Za-z][\w.-]*/[A-Za-z][\w.-]*(@\w[\w.-]*)?")


@dataclass
class Step:
    """A part in the making."""

    id: str
    kind: PartKind
    type: str
    place: Path
    stage: StageModel | None = None
    gate: GateSpec | None = None
    needs: list[str] = field(default_factory=list)
    edges: dict[str, EdgeKind] = field(default_factory=dict)
    ledger: bool = False
    reads: list[tuple[Read, Path]] = field(default_factory=list)
    keep: set[str] = field(default_factory=set)
    sleep_ms: int = 0
    sleep: str | None = None

    @property
    def name(self) -> str:
        return (self.stage.name if self.stage else None) or self.id


class Steps:
    """All steps of a file, found by id or by name."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.all: list[Step] = []
        self.by_id: dict[str, Step] = {}
        self._by_fold: dict[str, Step] = {}
        self._by_name: dict[str, Step] = {}

    def add(self, step: Step) -> None:
        """Takes the step in; a clash of ids is noted and the first one stays."""
        first = self._by_fold.setdefault(step.id.lower(), step)
        if first is not step:
            line = self.source.line_of(first.place)
            self.source.fault(
                "T111",
                f"the id `{step.id}` is used twice" if first.id == step.id
                else f"the ids `{first.id}` and `{step.id}` differ only in case",
                (*step.place, "id" if step.stage and step.stage.id else "name"),
                f"first at line {line}; give one of them another `id`",
            )  # fmt: skip
            return
        self.all.append(step)
        self.by_id[step.id] = step
        if step.stage and step.stage.name:
            self._by_name.setdefault(step.stage.name, step)

    def find(self, reference: str) -> Step | None:
        """The step with that id or exact name."""
        return self.by_id.get(reference) or self._by_name.get(reference)

    def resolve(self, reference: str, path: Path, code: str = "T106") -> Step | None:
        """The step, or None with a finding that names the nearest one."""
        step = self.find(reference)
        if step is None:
            hint = did_you_mean(reference, self.by_id, "stages")
            self.source.fault(code, f"no stage `{reference}`", path, hint)
        return step


def slug(name: str) -> str:
    """The literal parts of a name as an id: `Wait for System` → `wait-for-system`."""
    literal = re.sub(r"\$\{\{.*?\}\}", " ", name, flags=re.DOTALL)
    folded = unicodedata.normalize("NFKD", literal).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_]+", "-", folded).strip("-")


def step_of(source: Source, stage: StageModel, n: int) -> Step | None:
    """The stage as a step, or None with findings."""
    place: Path = ("stages", n)
    kind = _kind(source, stage, place) or "echo"  # a faulty stage stays, so others may name it
    identity = _identity(source, stage, kind, place)
    if identity is None:
        return None
    type_ = stage.type if kind == "stage" and stage.type else kind
    step = Step(identity, kind, type_, place, stage)
    if kind == "sleep":
        _sleep(source, step, stage.sleep)
    if kind == "uses" and stage.uses and not _USES.fullmatch(stage.uses):
        hint = "path/function@tag, for example notifications/send@v1"
        source.fault("T120", f"`{stage.uses}` does not name a function", (*place, "uses"), hint)
    return step


def _identity(source: Source, stage: StageModel, kind: str, place: Path) -> str | None:
    if stage.id is not None:
        identity, path = stage.id, (*place, "id")
    elif stage.name is not None:
        identity, path = slug(stage.name), (*place, "name")
        if not identity:
            hint = "give the stage an `id`"
            source.fault("T110", f"no id can be made of the name `{stage.name}`", path, hint)
            return None
    else:
        identity, path = slug(stage.type or kind), place
    if identity.lower() in RESERVED_TOPICS:
        hint = "give the stage another `id`"
        source.fault("T110", f"the id `{identity}` is the pipeline's own topic", path, hint)
    if len(identity) > ID_LIMIT:
        message = f"an id of {len(identity)} characters; at most {ID_LIMIT}"
        source.fault("T110", message, path, "give the stage a shorter `id`")
        return None
    return identity


def _kind(source: Source, stage: StageModel, place: Path) -> PartKind | None:
    given = {
        "echo": stage.echo, "sleep": stage.sleep, "uses": stage.uses,
        "raise": stage.raise_, "gate": stage.gate,
    }  # fmt: skip
    telling = [key for key, value in given.items() if value is not None]
    kinds = {"sleep" if key == "echo" and "sleep" in telling else key for key in telling}
    if stage.type is not None:
        kinds.add({"empty": "sleep" if "sleep" in telling else "echo"}.get(stage.type, stage.type))
        if stage.type == "echo" and "sleep" in telling:
            kinds.discard("echo")
    if not kinds:
        if place in source.damaged:
            return None
        hint = "give it `type:`, or one of echo, sleep, uses, raise, gate"
        source.fault("T112", "this stage does not say what it does", place, hint)
        return None
    if len(kinds) > 1:
        message = f"one stage, several kinds: {', '.join(sorted(kinds))}"
        source.fault("T113", message, (*place, telling[0]), "make two stages of it", key=True)
        return None
    kind = kinds.pop()
    if not _fields_fit(source, stage, kind, telling, place):
        return None
    if kind == "sleep" and stage.sleep == 0 and not isinstance(stage.sleep, bool):
        return "echo"
    return kind if stage.type in BUILT_IN or telling else "stage"  # type: ignore[return-value]


def _fields_fit(
    source: Source, stage: StageModel, kind: str, telling: list[str], place: Path
) -> bool:
    if kind in ("sleep", "uses", "raise") and kind not in telling:
        source.fault("T109", f"a stage of type `{kind}` needs `{kind}:`", (*place, "type"))
        return False
    if stage.condition is not None and kind != "gate":
        message = "`condition` with clauses belongs to a gate; a stage has `if`"
        source.fault("T113", message, (*place, "condition"), key=True)
    if stage.with_ and kind != "uses":
        hint = "a stage type takes `config:`" if kind not in BUILT_IN else "remove it"
        source.fault("T113", "`with` belongs to `uses`", (*place, "with"), hint, key=True)
    if stage.config and kind in BUILT_IN - {"gate"}:
        hint = "arguments of a function stand under `with:`" if kind == "uses" else "remove it"
        source.fault("T113", f"`{kind}` has no `config`", (*place, "config"), hint, key=True)
    if stage.batch and (kind in BUILT_IN - {"uses"}):
        source.fault("T113", f"`{kind}` has no `batch`", (*place, "batch"), "remove it", key=True)
    return True


def _sleep(source: Source, step: Step, value: Any) -> None:
    path = (*step.place, "sleep")
    limits = "from 0 to 1800 seconds"
    try:
        if isinstance(value, str) and OPEN in value:
            step.sleep = value
            return
        if isinstance(value, str):
            ms: float = duration_ms(value, allow_zero=True)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            ms = value * 1000
        else:
            raise ValueError(f"`{value}` is not a time to sleep")
    except ValueError as error:
        source.fault("T116", str(error), path, f"seconds ({limits}), or {HELP}")
        return
    if not 0 <= ms <= MAX_SLEEP_MS:
        source.fault("T117", f"`sleep` must be {limits}, not {value}", path)
        return
    step.sleep_ms = round(ms)
