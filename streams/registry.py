"""The stage types and functions a process knows: an object that is handed in, never a global.

Built-ins, installed plugins and a project's own stages come in the same way: a registration, or a
module that holds some.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, ModuleType
from typing import Any, Literal

from streams.authoring.faults import StageRegistryError, StageSetupError
from streams.authoring.function_stage import (
    LATEST,
    FunctionName,
    TaggedFunction,
    tags_of,
)
from streams.authoring.registration import (
    Builder,
    StageDefinition,
    StageKind,
    StageMetadata,
    StageRegistration,
)
from streams.errors import StageResolutionError
from streams.stage import BatchStage, Stage, registration_of

__all__ = [
    "ConfigFault",
    "PluginReport",
    "StageDefinition",
    "StageFactory",
    "StageKind",
    "StageMetadata",
    "StageRegistration",
    "StageRegistry",
    "StageRegistryError",
]


@dataclass(frozen=True, slots=True)
class ConfigFault:
    """One thing that is wrong with a stage's config, and where in it."""

    path: tuple[str | int, ...]
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class PluginReport:
    """What became of one source of stages."""

    source: str
    """`module:name`, or the name of an entry point."""
    state: Literal["loaded", "waiting", "broken"]
    """`waiting`: installed, imported when one of its types is asked for."""
    stages: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    reason: str = ""
    distribution: str = ""

    @property
    def ok(self) -> bool:
        return self.state != "broken"


class StageRegistry:
    """Stage types by name, functions by `module/name@version`."""

    def __init__(self) -> None:
        self._stages: dict[str, StageRegistration] = {}
        self._functions: dict[tuple[str, str], dict[str, TaggedFunction]] = {}
        self._waiting: dict[str, Callable[[], PluginReport]] = {}
        self._reports: dict[str, PluginReport] = {}

    # -- registering

    def register(self, registration: StageRegistration, *, replace: bool = False) -> None:
        """Makes a stage type known; a second one of the same name is refused."""
        if not isinstance(registration, StageRegistration):
            raise StageRegistryError(
                f"not a stage registration but {type(registration).__name__}",
                help="return StageRegistration(metadata=..., builder=...)",
            )
        name = registration.type
        known = self._stages.get(name)
        if known is not None and known is not registration and not replace:
            raise StageRegistryError(
                f"stage type {name!r} is registered already", help="pass replace=True to replace it"
            )
        self._stages[name] = registration

    def register_stage(
        self, *, metadata: StageMetadata, builder: Builder, replace: bool = False
    ) -> StageRegistration:
        """Makes a stage type known from its metadata and builder."""
        if not callable(builder):
            raise StageRegistryError(f"the builder of {metadata.stage_type!r} is not callable")
        registration = StageRegistration(metadata=metadata, builder=builder)
        self.register(registration, replace=replace)
        return registration

    def add_function(self, function: Callable[..., Any], *, replace: bool = False) -> list[str]:
        """Makes a function marked with `@tag` known under its names."""
        tags = tags_of(function)
        if not tags:
            raise StageRegistryError(
                f"{getattr(function, '__qualname__', function)!s} is not marked with @tag"
            )
        for mark in tags:
            versions = self._functions.setdefault((mark.name.module, mark.name.name), {})
            known = versions.get(mark.name.version)
            if known is not None and known.function is not function and not replace:
                raise StageRegistryError(f"function {mark.name} is registered already")
            versions[mark.name.version] = TaggedFunction(mark.name, function, mark.inline)
        return [str(mark.name) for mark in tags]

    def add_module(self, module: ModuleType, *, replace: bool = False) -> list[str]:
        """Makes all stages and functions of a module known; names the ones it found."""
        found: list[str] = []
        for candidate in list(vars(module).values()):
            if isinstance(candidate, StageRegistration):
                self.register(candidate, replace=replace)
                found.append(candidate.type)
            elif is_stage_class(candidate) and candidate.__module__ == module.__name__:
                registration = registration_of(candidate)
                self.register(registration, replace=replace)
                found.append(registration.type)
            elif tags_of(candidate):
                found += self.add_function(candidate, replace=replace)
        return found

    def add_source(self, name: str, load: Callable[[], PluginReport]) -> None:
        """A source that is loaded when a type is asked for that nobody has yet."""
        if name not in self._reports:
            self._waiting[name] = load
            self._reports[name] = PluginReport(name, "waiting")

    def report(self, report: PluginReport) -> PluginReport:
        """Remembers what became of a source."""
        self._reports[report.source] = report
        return report

    # -- looking up

    @property
    def stages(self) -> Mapping[str, StageRegistration]:
        """The loaded stage types, to be read; `register_stage` is how to add one."""
        return MappingProxyType(self._stages)

    def plugins(self) -> list[PluginReport]:
        """Every source of stages, broken ones with their reason."""
        return list(self._reports.values())

    def report_of(self, source: str) -> PluginReport | None:
        return self._reports.get(source)

    def trouble(self, source: str) -> str:
        """Why a source could not be loaded; empty if it was, or was never asked for."""
        report = self._reports.get(source)
        return "" if report is None or report.ok else report.reason

    def stage_types(self) -> list[str]:
        """Names of all stage types, sorted; loads what waits."""
        self._load_waiting()
        return sorted(self._stages)

    known = stage_types

    def known_functions(self) -> list[str]:
        """Names of all functions, sorted; loads what waits."""
        self._load_waiting()
        return sorted(
            str(function.name)
            for versions in self._functions.values()
            for function in versions.values()
        )

    def resolve(self, type: str) -> StageRegistration:
        """The stage type of that name."""
        found = self._stages.get(type)
        if found is None:
            self._load_waiting(first=type, until=lambda: type in self._stages)
            found = self._stages.get(type)
        if found is None:
            raise _unknown("stage type", type, sorted(self._stages))
        return found

    def resolve_function(self, reference: str) -> TaggedFunction:
        """The function of that name; `latest` is the one so tagged, else the highest version."""
        name = FunctionName.parse(reference)
        key = (name.module, name.name)
        if name.version not in self._functions.get(key, {}):
            self._load_waiting()
        versions = self._functions.get(key, {})
        if name.version in versions:
            return versions[name.version]
        if versions and name.version == LATEST:
            return versions[max(versions, key=_natural)]
        raise _unknown("function", str(name), self.known_functions())

    def wants_ledger(self, type: str) -> bool:
        """Whether stages of that type are to be given the job's ledger view."""
        return self.resolve(type).metadata.wants_ledger

    # -- checking

    def check_config(self, type: str, config: Mapping[str, Any]) -> list[ConfigFault]:
        """All that is wrong with a config; values that hold `${{ }}` are judged at run time."""
        model = self.resolve(type).config
        if model is None:
            return []
        from pydantic import ValidationError

        try:
            model.model_validate(dict(config))
        except ValidationError as error:
            return [
                ConfigFault(
                    tuple(fault["loc"]), fault["msg"], _hint(fault, model.model_fields.keys())
                )
                for fault in error.errors(include_url=False, include_input=False)
                if not _is_template(config, fault["loc"])
            ]
        return []

    def check_arguments(self, reference: str, given: Mapping[str, Any]) -> list[ConfigFault]:
        """All that is wrong with the `with:` of a `uses:` call."""
        signature = self.resolve_function(reference).signature
        names = [slot.name for slot in signature.values]
        faults = [
            ConfigFault((name,), f"{reference} has no parameter {name!r}", _nearest(name, names))
            for name in given
            if name not in names and not signature.open_ended
        ]
        faults += [
            ConfigFault((), f"{reference} needs the argument {slot.name!r}", f"add {slot.name}: …")
            for slot in signature.values
            if slot.required and slot.name not in given
        ]
        return faults

    def _load_waiting(
        self, first: str | None = None, until: Callable[[], bool] = lambda: False
    ) -> None:
        # The source named like the type most likely has it; so the others stay unloaded.
        names = sorted(self._waiting, key=lambda name: (name != first, name))
        for name in names:
            if until():
                return
            self.report(self._waiting.pop(name)())


class StageFactory:
    """Builds stages from definitions; what the runtime asks."""

    def __init__(self, registry: StageRegistry) -> None:
        self.registry = registry

    def register_stage(
        self, *, metadata: StageMetadata, builder: Builder, replace: bool = False
    ) -> StageRegistration:
        return self.registry.register_stage(metadata=metadata, builder=builder, replace=replace)

    def build(self, definition: StageDefinition) -> Any:
        """A stage object; raises `StageSetupError` saying why there is none."""
        registration = self.registry.resolve(definition.type)
        if registration.builder is None:
            raise StageSetupError(f"stage type {definition.type!r} is run by the engine itself")
        try:
            made = registration.builder(definition)
        except StageSetupError:
            raise
        except Exception as error:
            raise StageSetupError(
                f"stage {definition.name!r} of type {definition.type!r} cannot be built: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not (callable(getattr(made, "execute", None)) or is_batch(made) or callable(made)):
            raise StageSetupError(
                f"the builder of stage type {definition.type!r} returned "
                f"{type(made).__name__}, which has no execute()"
            )
        return made


def is_stage_class(candidate: object) -> bool:
    """Whether this is a stage class to be registered, not one of the contracts themselves."""
    return (
        isinstance(candidate, type)
        and issubclass(candidate, Stage)
        and candidate not in (Stage, BatchStage)
    )


def is_batch(made: object) -> bool:
    """Whether a stage object takes many events in one call."""
    return callable(getattr(made, "execute_batch", None))


def _unknown(what: str, name: str, known: Iterable[str]) -> StageResolutionError:
    names = list(known)
    listed = ", ".join(names) or "none"
    return StageResolutionError(
        f"unknown {what} {name!r} (known: {listed})", help=_nearest(name, names)
    )


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def _hint(fault: Any, fields: Iterable[str]) -> str:
    if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1:
        return _nearest(str(fault["loc"][0]), fields) or f"known: {', '.join(sorted(fields))}"
    return ""


def _is_template(config: Any, path: Iterable[str | int]) -> bool:
    """Whether the value at `path`, or one around it, is text with an expression."""
    value = config
    for step in path:
        if isinstance(value, str):
            break
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return False
    return isinstance(value, str) and "${{" in value


def _natural(version: str) -> list[tuple[int, int, str]]:
    """v10 after v9."""
    return [
        (1, int(word), "") if word.isdigit() else (0, 0, word)
        for word in re.findall(r"\d+|\D+", version)
    ]
