"""How a stage type is described: plain values, made by authors and read by the registry."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from streams.authoring.faults import StageRegistryError

if TYPE_CHECKING:
    from pydantic import BaseModel

LEDGER = "@ledger"
"""Dependency of a stage that wants to see the job's ledger view."""

OutputHandler = Callable[[dict[str, Any], str, Any], object]
OutputCounter = Callable[[Any], int]
Builder = Callable[["StageDefinition"], Any]

_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_OVERRIDABLE = ("state_key", "description", "dependencies")


class StageKind(StrEnum):
    """What a stage is for."""

    TRANSFORM = "transform"
    ENRICH = "enrich"
    ROUTE = "route"
    GUARD = "guard"
    WORK = "work"
    AGENT = "agent"


@dataclass(frozen=True, slots=True)
class StageMetadata:
    """How a stage type fits into a pipeline."""

    stage_type: str
    state_key: str | tuple[str, ...] | list[str] | None = None
    """Name or names under which dependents find the output."""
    output_handler: OutputHandler | None = None
    """Puts the output into a state mapping; what it puts under the state key travels on."""
    output_counter: OutputCounter | None = None
    """Number of things in an output, for the row and the metrics."""
    description: str = ""
    dependencies: Sequence[str] = ()
    """Hints; `"@ledger"` among them brings the ledger view."""

    def __post_init__(self) -> None:
        if not _TYPE.fullmatch(str(self.stage_type)):
            raise StageRegistryError(
                f"stage type {self.stage_type!r} is not a name",
                help="letters, digits, '-', '_' and '.', beginning with a letter, up to 64",
            )
        if isinstance(self.state_key, list):
            object.__setattr__(self, "state_key", tuple(self.state_key))
        for key in self.state_keys:
            if not str(key).isidentifier():
                raise StageRegistryError(
                    f"state key {key!r} of stage type {self.stage_type!r} is not an identifier"
                )
        if isinstance(self.dependencies, str):
            raise StageRegistryError(
                f"dependencies of stage type {self.stage_type!r} are a text, not a list of names"
            )
        object.__setattr__(self, "dependencies", tuple(self.dependencies))

    @property
    def state_keys(self) -> tuple[str, ...]:
        """The state keys as a tuple, however they were written."""
        if self.state_key is None:
            return ()
        return (self.state_key,) if isinstance(self.state_key, str) else tuple(self.state_key)

    @property
    def wants_ledger(self) -> bool:
        return LEDGER in self.dependencies

    def with_overrides(self, overrides: Mapping[str, Any]) -> StageMetadata:
        """Metadata for one stage of one pipeline; the registered one stays as it is."""
        unknown = sorted(set(overrides) - set(_OVERRIDABLE))
        if unknown:
            raise StageRegistryError(
                f"metadata_overrides may not set {', '.join(unknown)}",
                help=f"it may set {', '.join(_OVERRIDABLE)}",
            )
        return replace(self, **overrides) if overrides else self


@dataclass(frozen=True, slots=True)
class StageDefinition:
    """A stage as the topology has it; what a builder is given.

    `config` holds values that depend on the job (`${{ params.x }}`) as they are written; at run
    time `ctx.config` has them evaluated.
    """

    name: str
    type: str
    config: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    policy: str | None = None
    depends_on: tuple[str, ...] = ()
    pipeline: str = ""
    version: str = ""

    @property
    def stage_type(self) -> str:
        return self.type


@dataclass(frozen=True, slots=True)
class StageRegistration:
    """A stage type: its metadata and how to build a stage of it.

    Made by `@stage`, by a plugin's `register_…` function, or by hand. Calling a registration made
    from a function calls that function, so that a unit test needs nothing else.
    """

    metadata: StageMetadata
    builder: Builder | None = None
    """None: the engine runs it itself (gates, sleeps)."""
    kind: StageKind = StageKind.TRANSFORM
    config: type[BaseModel] | None = None
    """Model of the stage's `config`; None accepts any mapping."""
    inline: bool = False
    """The author's promise that a call takes under 10 ms and never waits."""
    sets: tuple[str, ...] = ()
    """Fields of the output that become fields of the job's ledger view."""
    function: Callable[..., Any] | None = None

    @property
    def type(self) -> str:
        return self.metadata.stage_type

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.function is None:
            raise StageRegistryError(f"stage type {self.type!r} is not a function to be called")
        return self.function(*args, **kwargs)
