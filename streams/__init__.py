"""Durable stage pipelines on Kafka. The public names; each is loaded when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# `stage` is both the decorator and the module it lives in. Importing the module binds the name to
# the module; this line binds it to the decorator, for good.
from streams.stage import stage as stage

if TYPE_CHECKING:
    from streams.app import App as App
    from streams.authoring.context import ContextSnapshot as ContextSnapshot
    from streams.authoring.context import RunIdentity as RunIdentity
    from streams.authoring.context import StageContext as StageContext
    from streams.authoring.context import StageInputs as StageInputs
    from streams.errors import StageResolutionError as StageResolutionError
    from streams.errors import StreamsError as StreamsError
    from streams.event import Event as Event
    from streams.outcome import StageOutput as StageOutput
    from streams.pipeline import Pipeline as Pipeline
    from streams.registry import StageDefinition as StageDefinition
    from streams.registry import StageFactory as StageFactory
    from streams.registry import StageKind as StageKind
    from streams.registry import StageMetadata as StageMetadata
    from streams.registry import StageRegistration as StageRegistration
    from streams.registry import StageRegistry as StageRegistry
    from streams.settings import Settings as Settings
    from streams.stage import Stage as Stage
    from streams.stage import tag as tag

_HOMES = {
    "App": "app",
    "ContextSnapshot": "authoring.context",
    "Event": "event",
    "Pipeline": "pipeline",
    "RunIdentity": "authoring.context",
    "Settings": "settings",
    "Stage": "stage",
    "StageContext": "authoring.context",
    "StageDefinition": "registry",
    "StageFactory": "registry",
    "StageInputs": "authoring.context",
    "StageKind": "registry",
    "StageMetadata": "registry",
    "StageOutput": "outcome",
    "StageRegistration": "registry",
    "StageRegistry": "registry",
    "StageResolutionError": "errors",
    "StreamsError": "errors",
    "stage": "stage",
    "tag": "stage",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """The public name, from the module it lives in."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'streams' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"streams.{home}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
