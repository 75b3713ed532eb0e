"""A function's parameters, filled from the context: read once, when a stage is built."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from streams.authoring.context import StageContext
from streams.authoring.faults import StageInputError, StageSetupError

Convert = Callable[[Any], Any]
Fill = Callable[[StageContext], Any]

_CONTEXT_NAMES = frozenset({"ctx", "context"})
_UNTYPED: tuple[Any, ...] = (Any, object, dict, list, inspect.Parameter.empty)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Slot:
    """One parameter: what fills it."""

    name: str
    source: typing.Literal["context", "config", "value"]
    convert: Convert | None = None
    default: Any = inspect.Parameter.empty
    positional: bool = True

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Signature:
    """All parameters of a function."""

    slots: tuple[Slot, ...]
    open_ended: bool = False
    """Takes `**anything`."""
    returns: Any = None

    @property
    def takes_context_alone(self) -> bool:
        """Called with the context and nothing else: there is nothing to look up."""
        return (
            len(self.slots) == 1 and self.slots[0].source == "context" and self.slots[0].positional
        )

    @property
    def takes_value_alone(self) -> bool:
        """Called with the upstream value and nothing else."""
        return len(self.slots) == 1 and self.slots[0].source == "value" and self.slots[0].positional

    @property
    def values(self) -> tuple[Slot, ...]:
        """Parameters that take values, not the context or the config."""
        return tuple(slot for slot in self.slots if slot.source == "value")

    def arguments(self, ctx: StageContext) -> tuple[list[Any], dict[str, Any]]:
        """Arguments of a stage's call: a lone value parameter takes the upstream value, several
        take the outputs of the dependencies (or fields of the upstream mapping) they name."""
        lone = len(self.values) == 1

        def find(slot: Slot) -> Any:
            return ctx.inputs.value if lone else _named(ctx, slot)

        return self._fill(ctx, find)

    def arguments_from(
        self, ctx: StageContext, given: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Arguments of a `uses` call: each value parameter takes what `with:` has under its name."""
        names = {slot.name for slot in self.values}
        extra = [name for name in given if name not in names]
        if extra and not self.open_ended:
            raise StageInputError(
                f"unknown argument {extra[0]!r}", help=f"it takes {', '.join(sorted(names))}"
            )

        def find(slot: Slot) -> Any:
            if slot.name in given:
                return given[slot.name]
            if slot.required:
                raise StageInputError(f"argument {slot.name!r} is missing")
            return inspect.Parameter.empty

        args, kwargs = self._fill(ctx, find)
        kwargs.update({name: given[name] for name in extra})
        return args, kwargs

    def _fill(
        self, ctx: StageContext, find: Callable[[Slot], Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for slot in self.slots:
            if slot.source == "context":
                value: Any = ctx
            elif slot.source == "config":
                value = ctx.config
            else:
                value = find(slot)
                if value is inspect.Parameter.empty:
                    value = slot.default
                elif slot.convert is not None:
                    value = slot.convert(value)
            if slot.positional:
                args.append(value)
            else:
                kwargs[slot.name] = value
        return args, kwargs


def _named(ctx: StageContext, slot: Slot) -> Any:
    for name in (slot.name, slot.name.replace("_", "-")):
        if name in ctx.inputs.declared:
            return ctx.inputs.get_output(name)
    value = ctx.inputs.value
    if isinstance(value, Mapping) and slot.name in value:
        return value[slot.name]
    if slot.required:
        raise StageInputError(f"no dependency or field named {slot.name!r} for that parameter")
    return inspect.Parameter.empty


def signature_of(
    function: Callable[..., Any], *, config: type | None = None, lenient: bool = False
) -> Signature:
    """The parameters of `function`; raises `StageSetupError` where one could never be filled.

    `lenient` leaves values as they are where an annotation cannot be resolved or converted to:
    classes written for other runtimes annotate with names that exist only for the type checker.
    """
    name = getattr(function, "__qualname__", repr(function))
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise StageSetupError(f"{name} has no readable signature") from error
    hints = _hints(function, name, lenient=lenient)
    slots: list[Slot] = []
    open_ended = False
    for parameter in parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            open_ended = True
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            slots.append(_slot(parameter, hints, config, f"{name}({parameter.name})", lenient))
    return Signature(tuple(slots), open_ended, hints.get("return"))


def _slot(
    parameter: inspect.Parameter,
    hints: Mapping[str, Any],
    config: type | None,
    where: str,
    lenient: bool,
) -> Slot:
    name = parameter.name
    hint = hints.get(name, inspect.Parameter.empty)
    positional = parameter.kind in _POSITIONAL
    if _is_context(hint) or (hint in _UNTYPED and name in _CONTEXT_NAMES):
        return Slot(name, "context", positional=positional)
    if config is not None and hint is config:
        return Slot(name, "config", positional=positional)
    if name == "config" and config is not None and hint is inspect.Parameter.empty:
        return Slot(name, "config", positional=positional)
    try:
        convert = converter(hint, where)
    except StageSetupError:
        if not lenient:
            raise
        convert = None
    return Slot(name, "value", convert, parameter.default, positional)


def _is_context(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, StageContext)


def _hints(function: Callable[..., Any], name: str, *, lenient: bool) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        if not lenient:
            raise StageSetupError(
                f"an annotation of {name} cannot be resolved: {error}",
                help="define the type at the top level of its module, outside `if TYPE_CHECKING`",
            ) from error
        return {}


def converter(hint: Any, where: str) -> Convert | None:
    """How JSON becomes `hint`; None where any value will do."""
    if hint in _UNTYPED:
        return None
    import msgspec

    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _struct_converter(hint)
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
    except PydanticUserError as error:
        raise StageSetupError(
            f"{where}: no value can be made into {_shown(hint)}",
            help="annotate with a pydantic model, a dataclass or a plain type; or with Any",
        ) from error

    def convert(value: Any) -> Any:
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            raise StageInputError(_faults_with_places(error)) from error

    return convert


def _struct_converter(hint: Any) -> Convert:
    import msgspec

    def convert(value: Any) -> Any:
        try:
            return msgspec.convert(value, hint, strict=False)
        except msgspec.ValidationError as error:
            raise StageInputError(f"input: {error}") from error

    return convert


def _faults_with_places(error: Any) -> str:
    """All faults with their places, without the values: those may hold what no log should."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    told = [
        f"input{''.join(f'[{p}]' if isinstance(p, int) else f'.{p}' for p in fault['loc'])}: "
        f"{fault['msg']}"
        for fault in faults[:5]
    ]
    if len(faults) > 5:
        told.append(f"and {len(faults) - 5} more")
    return "; ".join(told)


def _shown(hint: Any) -> str:
    return getattr(hint, "__qualname__", str(hint))


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a call gives a coroutine."""
    call = getattr(function, "__call__", None)  # noqa: B004 - an object may have an async __call__
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
