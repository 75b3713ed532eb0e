"""What is known of a stage before its first event: built once for each part of a plan."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from streams.authoring.context import StageContext
from streams.authoring.faults import StageSetupError
from streams.authoring.function_stage import FunctionStage, TaggedFunction
from streams.authoring.registration import (
    StageDefinition,
    StageMetadata,
    StageRegistration,
)
from streams.authoring.signature import Slot, is_async, signature_of
from streams.errors import StageResolutionError
from streams.registry import StageFactory, StageRegistry, is_batch
from streams.secrets import Secrets
from streams.stage import Stage
from streams.topology.expressions import Value, compile_expression, compile_value
from streams.topology.plan import USER_CODE, Part, Plan

_ONLY_SECRETS = frozenset({"secrets"})
_VIEW_ROOTS = frozenset({"facts", "metadata", "ledger"})
"""A part whose expressions read these gets the view for them, not because its author asked."""


@dataclass(slots=True)
class Prepared:
    """A part of a plan, ready to be called."""

    plan: Plan
    part: Part
    stage: Any
    """The stage object, or the function of `uses`."""
    invoke: Callable[[StageContext], Any]
    with_value: Callable[[Any], Any] | None = field(default=None, kw_only=True)
    """How to call it with its upstream value alone, where it looks at nothing else of the call."""
    metadata: StageMetadata
    is_async: bool
    inline: bool
    config: Value
    """Config, or `with:` of `uses`; evaluated for each call unless it is `fixed`."""
    sets: Value
    fixed: Any = None
    """The config where it does not depend on the job."""
    is_fixed: bool = False
    model: Any = None
    publishes: tuple[str, ...] = ()
    """Fields of the output that the stage type puts into the ledger view."""
    needs: tuple[str, ...] = ()
    """Whose outputs it is given."""
    declared: tuple[str, ...] = ()
    """The same and the gates before it, which have no output."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Dependency → name of its output in the upstream mapping."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    ledger_in_upstream: bool = False
    opened: bool = True
    slow_calls: int = 0
    is_batch: bool = field(init=False)
    roots: frozenset[str] = field(init=False)
    """What its templates read."""
    is_plain: bool = field(init=False)
    """Of its answer nothing but the value is looked at."""

    def __post_init__(self) -> None:
        metadata, part = self.metadata, self.part
        handled = metadata.output_handler or metadata.output_counter
        self.is_plain = not (handled or self.publishes or part.sets or part.keep)
        self.is_batch = is_batch(self.stage)
        self.roots = self.config.roots | self.sets.roots

    def config_for(self, names: Callable[[frozenset[str]], Mapping[str, Any]]) -> Any:
        """The config of one call."""
        if self.is_fixed:
            return self.fixed
        return _modelled(self.model, self.config.evaluate(names(self.config.roots)), self.part)


def prepare(plan: Plan, part: Part, registry: StageRegistry, secrets: Secrets) -> Prepared:
    """Builds the stage of a part. May take long (builders may load models) and may raise."""
    prepared = (
        _prepare_function(plan, part, registry)
        if part.kind == "uses"
        else _prepare_stage(plan, part, registry, secrets)
    )
    prepared.needs = sources_of(plan, part)
    prepared.declared = tuple(dict.fromkeys((*prepared.needs, *part.needs)))
    prepared.keys = _keys(plan, prepared.needs, registry)
    prepared.aliases = {
        plan.by_path[need].name: need for need in prepared.declared if plan.by_path[need].name
    }
    prepared.ledger_in_upstream = _takes_ledger(prepared)
    if not prepared.is_fixed and prepared.config.roots <= _ONLY_SECRETS:
        prepared.fixed = prepared.config_for(lambda roots: _secrets(plan, roots, secrets))
        prepared.is_fixed = True
    if isinstance(prepared.stage, Stage) and prepared.is_fixed:
        prepared.stage.config = prepared.fixed
    if isinstance(prepared.stage, FunctionStage) and prepared.is_fixed:
        lone = len(prepared.needs) <= 1 and not prepared.ledger_in_upstream
        prepared.with_value = prepared.stage.with_value if lone else None
    prepared.opened = not callable(getattr(prepared.stage, "open", None))
    return prepared


def _prepare_function(plan: Plan, part: Part, registry: StageRegistry) -> Prepared:
    tagged: TaggedFunction = registry.resolve_function(part.uses or "")
    function, signature = tagged.function, tagged.signature

    def invoke(ctx: StageContext) -> Any:
        args, kwargs = signature.arguments_from(ctx, ctx.config)
        return function(*args, **kwargs)

    waits = is_async(function)
    return Prepared(
        plan=plan,
        part=part,
        stage=function,
        invoke=invoke,
        metadata=StageMetadata(stage_type="uses"),
        is_async=waits,
        inline=tagged.inline and not waits,
        config=compile_value(part.args),
        sets=compile_value(part.sets),
    )


def _prepare_stage(plan: Plan, part: Part, registry: StageRegistry, secrets: Secrets) -> Prepared:
    registration: StageRegistration = registry.resolve(part.type)
    metadata = registration.metadata.with_overrides(part.overrides)
    config = compile_value(part.config)
    readable = config.roots <= _ONLY_SECRETS
    definition = StageDefinition(
        name=part.name or part.path,
        type=part.type,
        config=MappingProxyType(
            config.evaluate(_secrets(plan, config.roots, secrets)) if readable else part.config
        ),
        id=part.path,
        policy=part.policy,
        depends_on=part.needs,
        pipeline=plan.pipeline,
        version=plan.version,
    )
    stage = StageFactory(registry).build(definition)
    invoke, waits = _bind(stage, part)
    return Prepared(
        plan=plan,
        part=part,
        stage=stage,
        invoke=invoke,
        metadata=metadata,
        is_async=waits,
        inline=_is_inline(registration, stage) and not waits and not is_batch(stage),
        config=config,
        sets=compile_value(part.sets),
        model=registration.config,
        publishes=registration.sets,
    )


def sources_of(plan: Plan, part: Part) -> tuple[str, ...]:
    """The parts with user code that come before this one, seen through gates and echoes: a gate
    holds a job, it does not change what travels."""
    found: dict[str, None] = {}
    pending = list(reversed(part.needs))
    while pending:
        before = plan.by_path[pending.pop()]
        if before.kind in USER_CODE:
            found[before.path] = None
        else:
            pending.extend(reversed(before.needs))
    return tuple(found)


def _takes_ledger(prepared: Prepared) -> bool:
    """Whether `ledger` joins the upstream value: for classes that declare `"@ledger"` (document
    001). Functions have `ctx.ledger`, so that their input keeps its type."""
    part = prepared.part
    if part.kind == "uses" or isinstance(prepared.stage, FunctionStage):
        return False
    if prepared.metadata.wants_ledger:
        return True
    condition = compile_expression(part.condition).roots if part.condition else frozenset()
    return part.ledger and not (prepared.roots | condition) & _VIEW_ROOTS


def _is_inline(registration: StageRegistration, stage: object) -> bool:
    return registration.inline or getattr(stage, "inline", False) is True


def _bind(stage: Any, part: Part) -> tuple[Callable[[StageContext], Any], bool]:
    """How to call a stage object, and whether that gives a coroutine."""
    if isinstance(stage, FunctionStage):
        return stage.execute, is_async(stage.execute)
    if is_batch(stage):
        return (lambda ctx: stage.execute_batch([ctx])), is_async(stage.execute_batch)
    execute = stage.execute if callable(getattr(stage, "execute", None)) else stage
    if inspect.isgeneratorfunction(execute) or inspect.isasyncgenfunction(execute):
        raise StageSetupError(f"stage {part.path!r}: execute() is a generator; return a list")
    # The first parameter is the context whatever it is called; a second one is the upstream value.
    slots = signature_of(execute, lenient=True).slots
    needed = [slot for slot in slots[1:] if slot.required]
    if not slots or len(needed) > 1 or any(not slot.positional for slot in needed):
        raise StageSetupError(
            f"stage {part.path!r}: execute() takes neither (ctx) nor (ctx, upstream)"
        )
    if len(slots) == 1 or not (needed or slots[1].positional):
        return execute, is_async(execute)
    return _with_upstream(execute, slots[1]), is_async(execute)


def _with_upstream(execute: Callable[..., Any], slot: Slot) -> Callable[[StageContext], Any]:
    convert = slot.convert
    if convert is None:
        return lambda ctx: execute(ctx, ctx.inputs.value)
    return lambda ctx: execute(ctx, convert(ctx.inputs.value))


def _keys(plan: Plan, needs: tuple[str, ...], registry: StageRegistry) -> dict[str, str]:
    """Names of the dependencies' outputs in an upstream mapping: the state key where the
    dependency has just one and no other shares it, else its id."""
    wanted = {need: _state_key(plan.by_path[need], registry) or need for need in needs}
    shared = list(wanted.values())
    return {need: key if shared.count(key) == 1 else need for need, key in wanted.items()}


def _state_key(part: Part, registry: StageRegistry) -> str | None:
    if part.kind == "uses":
        return None
    try:
        metadata = registry.resolve(part.type).metadata.with_overrides(part.overrides)
    except StageResolutionError:
        # A worker of one pool need not have the plugins of another.
        return None
    return metadata.state_keys[0] if len(metadata.state_keys) == 1 else None


def _secrets(plan: Plan, roots: frozenset[str], secrets: Secrets) -> dict[str, Any]:
    return {"secrets": secrets.only(plan.secrets)} if "secrets" in roots else {}


def _modelled(model: Any, config: Any, part: Part) -> Any:
    if model is None:
        return config
    from pydantic import ValidationError

    try:
        return model.model_validate(config)
    except ValidationError as error:
        # The values are left out: they may have come from a secret.
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        told = "; ".join(f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in faults[:5])
        raise StageSetupError(f"config of stage {part.path!r}: {told}") from None
