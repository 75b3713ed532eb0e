"""Decorated functions: stages by `@stage`, callables for `uses:` by `@tag`.

The decorators only mark. Nothing is registered by being imported: a registry is handed the module.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, overload

from streams.authoring.context import StageContext
from streams.authoring.faults import StageRegistryError, StageSetupError
from streams.authoring.registration import (
    StageDefinition,
    StageKind,
    StageMetadata,
    StageRegistration,
)
from streams.authoring.signature import Signature, is_async, signature_of

if TYPE_CHECKING:
    from pydantic import BaseModel

LATEST = "latest"
MARK = "__streams_tags__"

_REFERENCE = re.compile(
    r"(?P<module>[A-Za-z][\w.-]*(?:/[A-Za-z][\w.-]*)*)/(?P<name>[A-Za-z][\w.-]*)(?:@(?P<version>[\w][\w.-]*))?"
)
Function = Callable[..., Any]
F = TypeVar("F", bound=Function)


class FunctionStage:
    """A stage whose work is a function with typed parameters."""

    __slots__ = ("convert", "execute", "function", "inline", "name", "signature", "with_value")

    def __init__(self, function: Function, *, name: str, config: type | None, inline: bool) -> None:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise StageSetupError(
                f"stage {name!r} is a generator function; a stage returns one value",
                help="return a list",
            )
        self.function = function
        self.name = name
        self.inline = inline
        self.signature: Signature = signature_of(function, config=config)
        self.execute: Callable[[StageContext], Any]
        self.with_value: Callable[[Any], Any] | None = None
        """How to call it with the upstream value, where it looks at nothing else."""
        if self.signature.takes_context_alone:
            self.execute = function
        elif is_async(function):
            self.execute = self._execute_async
        else:
            self.execute = self._execute
            if self.signature.takes_value_alone:
                self.convert = self.signature.slots[0].convert
                self.with_value = function if self.convert is None else self._converted
                self.execute = self._execute_with_value

    def _execute(self, ctx: StageContext) -> Any:
        args, kwargs = self.signature.arguments(ctx)
        return self.function(*args, **kwargs)

    def _execute_with_value(self, ctx: StageContext) -> Any:
        assert self.with_value is not None
        return self.with_value(ctx.inputs.value)

    def _converted(self, value: Any) -> Any:
        assert self.convert is not None
        return self.function(self.convert(value))

    async def _execute_async(self, ctx: StageContext) -> Any:
        args, kwargs = self.signature.arguments(ctx)
        return await self.function(*args, **kwargs)


@overload
def stage(function: Function, /) -> StageRegistration: ...
@overload
def stage(
    *,
    type: str | None = ...,
    kind: StageKind = ...,
    inline: bool = ...,
    config: type[BaseModel] | None = ...,
    sets: Sequence[str] = ...,
    state_key: str | tuple[str, ...] | None = ...,
    description: str = ...,
    dependencies: Sequence[str] = ...,
) -> Callable[[Function], StageRegistration]: ...
def stage(
    function: Function | None = None,
    /,
    *,
    type: str | None = None,
    kind: StageKind = StageKind.TRANSFORM,
    inline: bool = False,
    config: type[BaseModel] | None = None,
    sets: Sequence[str] = (),
    state_key: str | tuple[str, ...] | None = None,
    description: str = "",
    dependencies: Sequence[str] = (),
) -> StageRegistration | Callable[[Function], StageRegistration]:
    """Makes a stage type of a function; its type is the function's name unless `type` says so.

    A parameter annotated `StageContext` gets the context; one annotated with the `config` model
    gets the config; a lone other one gets the upstream value, converted to its annotation; of
    several, each gets the output of the dependency it is named after.
    """

    def register(function: Function) -> StageRegistration:
        name = type or function.__name__
        document = inspect.getdoc(function) or ""
        metadata = StageMetadata(
            stage_type=name,
            state_key=state_key,
            description=description or document.partition("\n")[0],
            dependencies=tuple(dependencies),
        )

        def build(definition: StageDefinition) -> FunctionStage:
            return FunctionStage(function, name=definition.name, config=config, inline=inline)

        return StageRegistration(
            metadata=metadata,
            builder=build,
            kind=kind,
            config=config,
            inline=inline,
            sets=tuple(sets),
            function=function,
        )

    return register if function is None else register(function)


@dataclass(frozen=True, slots=True)
class FunctionName:
    """`module/name@version`."""

    module: str
    name: str
    version: str = LATEST

    def __str__(self) -> str:
        return f"{self.module}/{self.name}@{self.version}"

    @classmethod
    def parse(cls, text: str) -> FunctionName:
        """From what `uses:` says; without a version it is `latest`."""
        found = _REFERENCE.fullmatch(text)
        if found is None:
            raise StageRegistryError(
                f"{text!r} is not the name of a function", help="write module/function@version"
            )
        return cls(found["module"], found["name"], found["version"] or LATEST)


@dataclass(frozen=True, slots=True)
class TaggedFunction:
    """A function under a name, for `uses:`."""

    name: FunctionName
    function: Function
    inline: bool = False
    signature: Signature = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "signature", signature_of(self.function))


@dataclass(frozen=True, slots=True)
class Tag:
    """A mark that `@tag` leaves on a function."""

    name: FunctionName
    inline: bool = False


def tag(
    name: str, alias: str | None = None, *, version: str = LATEST, inline: bool = False
) -> Callable[[F], F]:
    """Marks a function as callable by `uses: name/alias@version`; several marks may be put.

    `name` may also be whole: `@tag("tasks/process_csv@v1")`. Without `alias` it is the function's
    own name.
    """

    def mark(function: F) -> F:
        whole = name if "/" in name else f"{name}/{alias or function.__name__}@{version}"
        tags: list[Tag] = function.__dict__.setdefault(MARK, [])
        tags.append(Tag(FunctionName.parse(whole), inline))
        return function

    return mark


def tags_of(candidate: object) -> tuple[Tag, ...]:
    """The marks of `@tag`, if there are any."""
    return tuple(getattr(candidate, "__dict__", {}).get(MARK, ()))
