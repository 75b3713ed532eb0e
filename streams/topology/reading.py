"""What the expressions of a step read, and whether it may be read at that place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from streams.errors import ExpressionError
from streams.topology.cel_syntax import Read
from streams.topology.expressions import (
    OPEN,
    Expression,
    compile_expression,
    compile_template,
    reads_of_stages,
)
from streams.topology.findings import did_you_mean
from streams.topology.model import TopologyModel
from streams.topology.source import Path, Source
from streams.topology.steps import Step, Steps

LEDGER_ROOTS: frozenset[str] = frozenset({"facts", "metadata", "ledger"})
CHANGING_ROOTS: frozenset[str] = LEDGER_ROOTS | {"stages"}
EVERYWHERE: frozenset[str] = LEDGER_ROOTS | {"params", "data", "payload", "stages", "job"}
IN_CONFIG: frozenset[str] = EVERYWHERE | {"secrets"}
IN_SETS: frozenset[str] = EVERYWHERE | {"result"}
IN_NAMES: frozenset[str] = frozenset({"params", "data", "payload", "job"})
_WHY = {
    "item": "`item` has a value inside `foreach` and `until` only",
    "loop": "`loop` has a value inside `foreach` and `until` only",
    "result": "`result`, the stage's own output, is there in `sets` only",
    "key": "`key` is there in the `id` of a `source` only",
    "headers": "`headers` are there in the `id` of a `source` only",
    "event": "`event` is there in the `id` of a `source` only",
}


class Reader:
    """Compiles the expressions of a file and notes what each step reads."""

    def __init__(self, source: Source, model: TopologyModel, steps: Steps) -> None:
        self.source = source
        self.params = None if model.params is None else frozenset(model.params)
        self.steps = steps
        self.secrets: set[str] = set()

    def read(self, step: Step) -> None:
        """Everything the step says in expressions."""
        stage = step.stage
        if stage is None:
            return
        at = step.place
        if stage.name and OPEN in stage.name:
            self._text(step, stage.name, (*at, "name"), IN_NAMES)
        if stage.if_ is not None:
            self.condition(step, stage.if_, (*at, "if"))
        for name, value, roots in (
            ("config", stage.config if step.kind == "stage" else {}, IN_CONFIG),
            ("with", stage.with_, IN_CONFIG),
            ("echo", stage.echo, EVERYWHERE),
            ("raise", stage.raise_, EVERYWHERE),
            ("sets", stage.sets, IN_SETS),
        ):
            for path, text in texts(value, (*at, name)):
                self._text(step, text, path, roots)
        if step.sleep is not None:
            self.condition(step, step.sleep, (*at, "sleep"))

    def condition(self, step: Step, text: str, path: Path) -> Expression | None:
        """The compiled condition, or None with a finding."""
        try:
            expression = compile_expression(text)
        except ExpressionError as error:
            self._fault(error, path)
            return None
        self._note(step, expression.reads, path, EVERYWHERE)
        return expression

    def _text(self, step: Step, text: str, path: Path, roots: frozenset[str]) -> None:
        if OPEN not in text:
            return
        try:
            template = compile_template(text)
        except ExpressionError as error:
            self._fault(error, path)
            return
        for expression in template.expressions:
            self._note(step, expression.reads, path, roots)

    def _fault(self, error: ExpressionError, path: Path) -> None:
        self.source.fault(error.code, error.message, path, error.help)

    def _note(self, step: Step, reads: tuple[Read, ...], path: Path, roots: frozenset[str]) -> None:
        for read in reads:
            if read.root not in roots:
                self._refuse(read, path)
                continue
            step.reads.append((read, path))
            if read.root in LEDGER_ROOTS and step.kind != "gate":
                step.ledger = True
            if read.root == "params":
                self._declared(read, path)
            elif read.root == "secrets":
                self._secret(read, path)
        for stage_id, _ in sorted(reads_of_stages(reads), key=str):
            if stage_id != "*" and stage_id not in self.steps.by_id:
                self.unknown_stage(stage_id, path)

    def _refuse(self, read: Read, path: Path) -> None:
        if read.root == "secrets":
            hint = "secrets are resolved in `config`, `with` and `args` only"
            self.source.fault("T124", f"`{read}` would end up in a row, log or event", path, hint)
            return
        message = _WHY.get(read.root, f"`{read.root}` has no value here")
        self.source.fault("T125", message, path)

    def _declared(self, read: Read, path: Path) -> None:
        if self.params is None or not read.path or read.path[0] in self.params:
            return
        hint = did_you_mean(str(read.path[0]), self.params, "declared parameters")
        message = f"`params.{read.path[0]}` is not declared under `params:`"
        self.source.fault("T107", message, path, hint)

    def _secret(self, read: Read, path: Path) -> None:
        if read.path and isinstance(read.path[0], str):
            self.secrets.add(read.path[0])
            return
        hint = "name it: `${{ secrets.api_key }}`"
        self.source.fault("T124", "which secret is read must be written here", path, hint)

    def unknown_stage(self, stage_id: str, path: Path) -> None:
        """Notes that an expression names a stage that the file does not have."""
        named = self.steps.find(stage_id)
        if named is not None:
            hint = f'expressions use the id: `stages["{named.id}"]`'
        else:
            hint = did_you_mean(stage_id, self.steps.by_id, "stages")
        self.source.fault("T106", f"no stage `{stage_id}`", path, hint)


def texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Every text inside a value, with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts(item, (*path, key))
    elif isinstance(value, list):
        for n, item in enumerate(value):
            yield from texts(item, (*path, n))
