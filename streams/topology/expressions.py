"""Expressions and templates: CEL in `${{ }}`, bounded, over named values only.

`compile_expression` takes a condition with or without the braces. `compile_value` takes any value
of a topology; text in it may hold `${{ }}`. Values are inserted once: text that comes out of an
expression is data, whatever it looks like.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from types import ModuleType
from typing import Any, NamedTuple

from streams.errors import ExpressionError
from streams.topology.cel_functions import Meter, kind_of, text_of
from streams.topology.cel_syntax import Parsed, Read, dotted, next_token, parse, variable

OPEN = "${{"


@lru_cache(maxsize=1)
def _cel() -> Any:
    """The engine behind expressions, without its command line: the package imports that too, and
    with it a terminal toolkit, which takes longer than all else that a check needs."""
    without = "cel.cli"
    left_out = "cel" not in sys.modules
    if left_out:
        sys.modules[without] = ModuleType(without)
    try:
        import cel
    finally:
        if left_out:
            sys.modules.pop(without, None)
    return cel


class Expression:
    """A compiled expression; evaluating it does not change it."""

    def __init__(self, source: str, parsed: Parsed) -> None:
        self.source = source
        self.reads: tuple[Read, ...] = parsed.reads
        self.roots: frozenset[str] = frozenset(read.root for read in parsed.reads)
        self._parsed = parsed
        if parsed.plain is None:
            _ = self._program  # a syntax error is told when compiling, not when running

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    def evaluate(self, names: Mapping[str, Any]) -> Any:
        """The value; raises ExpressionError naming the path that is missing."""
        if self._parsed.plain is not None:
            value, missing = _walk(names, self._parsed.plain)
            if missing:
                raise self._missing(missing)
            return value
        return self._run(names)

    @cached_property
    def _program(self) -> Any:
        try:
            return _cel().compile(self._parsed.cel)
        except ValueError as error:
            raise ExpressionError(_first_line(error), code="X001", source=self.source) from None

    def _run(self, names: Mapping[str, Any]) -> Any:
        meter = Meter(self.source)
        needed = _only(names, self._parsed.reads)
        meter.measure(needed)
        if meter.fault:
            raise meter.fault
        meter.steps = 0
        try:
            variables = {variable(root): value for root, value in needed.items()}
            for n, read in enumerate(self._parsed.asked):
                variables[f"has_{n}"] = not _walk(names, read)[1]
            context = _cel().Context(variables=variables)
            for name, function in meter.callables(self._parsed.functions):
                context.add_function(name, function)
            result = self._program.execute(context)
        except (LookupError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
            raise meter.fault or self._failed(error, names) from None
        if meter.fault:
            raise meter.fault
        if not meter.measure(result) and meter.fault:
            raise meter.fault
        return result

    def _missing(self, path: str) -> ExpressionError:
        return ExpressionError(
            f"`{path}` is missing",
            code="X004",
            source=self.source,
            help=f"use `has({path})` or `coalesce({path}, ...)` if it may be absent",
        )

    def _failed(self, error: Exception, names: Mapping[str, Any]) -> ExpressionError:
        if isinstance(error, KeyError | RuntimeError):
            for read in self.reads:
                if missing := _walk(names, read)[1]:
                    return self._missing(missing)
            if isinstance(error, KeyError):
                return self._missing(str(error.args[0]))
        if isinstance(error, TypeError):
            for read in self.reads:
                if missing := _walk(names, read)[1]:
                    return self._missing(missing)
            kinds = ", ".join(
                f"`{read}` is {kind_of(_walk(names, read)[0])}" for read in self.reads
            )
            return self._error("X005", f"values of these kinds do not go together: {kinds}")
        if isinstance(error, ValueError | RuntimeError):
            return self._error("X005", _first_line(error))
        return self._error("X007", _first_line(error))

    def _error(self, code: str, message: str) -> ExpressionError:
        return ExpressionError(f"{message} in `{self.source}`", code=code, source=self.source)


def evaluate_bool(expression: Expression, names: Mapping[str, Any]) -> bool:
    """The condition's answer; anything but true or false is an error, never "false"."""
    value = expression.evaluate(names)
    if isinstance(value, bool):
        return value
    raise ExpressionError(
        f"the condition `{expression.source}` gave {kind_of(value)}, not true or false",
        code="X006",
        source=expression.source,
        help="compare it with something: `params.mode == 'fast'`",
    )


@lru_cache(maxsize=4096)
def compile_expression(text: str) -> Expression:
    """Compiles a condition, with or without `${{ }}`; raises ExpressionError."""
    stripped = text.strip()
    if OPEN in stripped:
        parts = _split(stripped)
        if len(parts) != 1 or not isinstance(parts[0], Expression):
            raise ExpressionError(
                "the braces must hold the whole expression", code="X008", source=text
            )
        return parts[0]
    return _compiled(stripped)


def _compiled(source: str) -> Expression:
    return Expression(source, parse(source))


class Template:
    """Text with expressions in it. A text that is one expression keeps the value's type."""

    def __init__(self, source: str, parts: tuple[str | Expression, ...]) -> None:
        self.source = source
        self.parts = parts
        self.expressions = tuple(part for part in parts if isinstance(part, Expression))
        self.roots = frozenset[str]().union(*(part.roots for part in self.expressions))

    def evaluate(self, names: Mapping[str, Any]) -> Any:
        if len(self.parts) == 1 and self.expressions:
            return self.expressions[0].evaluate(names)
        return "".join(
            part if isinstance(part, str) else text_of(part.evaluate(names)) for part in self.parts
        )


@lru_cache(maxsize=4096)
def compile_template(text: str) -> Template:
    """Compiles text; raises ExpressionError for a fault in any of its expressions."""
    whole = text.strip()
    return Template(
        text, tuple(_split(whole if whole.startswith(OPEN) and whole.endswith("}}") else text))
    )


def _split(text: str) -> list[str | Expression]:
    """The text cut into literal pieces and expressions."""
    parts: list[str | Expression] = []
    at = 0
    while (opening := text.find(OPEN, at)) >= 0:
        if opening > at:
            parts.append(text[at:opening])
        closing = _closing(text, opening + len(OPEN))
        parts.append(_compiled(text[opening + len(OPEN) : closing].strip()))
        at = closing + 2
    if at < len(text):
        parts.append(text[at:])
    return parts


def _closing(text: str, at: int) -> int:
    """Where the `}}` stands that ends the expression beginning at `at`."""
    start, depth = at, 0
    while True:
        try:
            token = next_token(text, at)
        except ExpressionError:
            if "}}" not in text[at:]:
                raise _unclosed(text) from None
            raise
        if token is None:
            raise _unclosed(text)
        if token.kind == "braces":
            raise ExpressionError("braces in braces", code="X008", source=text)
        if token.text in "{}" and token.text:
            if token.text == "}" and depth == 0:
                if text.startswith("}}", token.start):
                    if not text[start : token.start].strip():
                        raise ExpressionError(
                            "nothing between the braces", code="X008", source=text
                        )
                    return token.start
                raise _unclosed(text)
            depth += 1 if token.text == "{" else -1
        at = token.end


def _unclosed(text: str) -> ExpressionError:
    return ExpressionError("`${{` without its `}}`", code="X008", source=text)


class Value(NamedTuple):
    """A value of a topology whose texts are compiled."""

    form: Any
    expressions: tuple[Expression, ...]

    @property
    def roots(self) -> frozenset[str]:
        return frozenset[str]().union(*(part.roots for part in self.expressions))

    @property
    def reads(self) -> tuple[Read, ...]:
        return tuple(read for part in self.expressions for read in part.reads)

    @property
    def is_constant(self) -> bool:
        return not self.expressions

    def evaluate(self, names: Mapping[str, Any]) -> Any:
        return _evaluate(self.form, names) if self.expressions else self.form


def compile_value(value: Any) -> Value:
    """Compiles every text inside lists and maps; raises ExpressionError."""
    found: list[Expression] = []
    return Value(_compile(value, found), tuple(found))


def _compile(value: Any, found: list[Expression]) -> Any:
    if isinstance(value, str):
        if OPEN not in value:
            return value
        template = compile_template(value)
        found.extend(template.expressions)
        return template
    if isinstance(value, Mapping):
        return {key: _compile(item, found) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_compile(item, found) for item in value]
    return value


def _evaluate(form: Any, names: Mapping[str, Any]) -> Any:
    if isinstance(form, Template):
        return form.evaluate(names)
    if isinstance(form, dict):
        return {key: _evaluate(item, names) for key, item in form.items()}
    if isinstance(form, list):
        return [_evaluate(item, names) for item in form]
    return form


def stage_reads(value: Any) -> set[tuple[str, str | None]]:
    """(stage id, field or None) for every output read; ("*", None) if only running it tells.

    A bare text is taken for a condition if it holds no braces.
    """
    if isinstance(value, str) and OPEN not in value:
        return reads_of_stages(compile_expression(value).reads)
    return reads_of_stages(compile_value(value).reads)


def reads_of_stages(reads: Iterable[Read]) -> set[tuple[str, str | None]]:
    """The same for paths that are known already."""
    return set(_stage_fields(reads))


def _stage_fields(reads: Iterable[Read]) -> Iterator[tuple[str, str | None]]:
    for read in reads:
        if read.root != "stages":
            continue
        if not read.path or not isinstance(read.path[0], str):
            yield "*", None
        elif len(read.path) > 1 and isinstance(read.path[1], str):
            yield read.path[0], read.path[1]
        else:
            yield read.path[0], None


def _walk(names: Any, read: Read) -> tuple[Any, str]:
    """The value at the path and "", or None and the shortest path that is missing."""
    value = names.get(read.root, _ABSENT)
    if value is _ABSENT:
        return None, read.root
    for n, step in enumerate(read.path):
        if isinstance(value, Mapping):
            value = value.get(step, _ABSENT)
        elif isinstance(value, list | tuple) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            value = _ABSENT
        if value is _ABSENT:
            return None, dotted(read.root, read.path[: n + 1])
    return value, ""


def _only(names: Mapping[str, Any], reads: Iterable[Read]) -> dict[str, Any]:
    """The names cut down to what is read, so that the engine converts nothing else."""
    needed: dict[str, Any] = {}
    whole: set[str] = set()
    for read in reads:
        if read.root in names and not _below(names[read.root], read):
            whole.add(read.root)
            needed[read.root] = names[read.root]
    for read in reads:
        if read.root in names and read.root not in whole:
            _copy_path(names[read.root], needed.setdefault(read.root, {}), read.path)
    return needed


def _below(value: Any, read: Read) -> bool:
    """Whether the path leads through maps only."""
    return isinstance(value, Mapping) and bool(read.path) and isinstance(read.path[0], str)


def _copy_path(source: Any, target: dict[str, Any], path: tuple[str | int, ...]) -> None:
    for n, step in enumerate(path):
        if step not in source:
            return
        below = source[step]
        last = n + 1 == len(path)
        if last or not isinstance(below, Mapping) or not isinstance(path[n + 1], str):
            target[str(step)] = below
            return
        kept = target.get(str(step))
        if kept is below:
            return
        if not isinstance(kept, dict):
            kept = target[str(step)] = {}
        source, target = below, kept


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


_ABSENT: Any = object()
