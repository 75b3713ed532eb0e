"""The stage types that the engine runs itself, so that topologies and `streams stages` know them.

They hold no user code: gates, sleeps and joins are the keeper's, `echo` and `raise` are folded
into the step before them, and `uses` calls a function that the registry knows by its own name.
"""

from __future__ import annotations

from streams.stage import StageKind, StageMetadata, StageRegistration

_TYPES = {
    "echo": (StageKind.TRANSFORM, "Answers with a text."),
    "gate": (StageKind.GUARD, "Holds the job until a condition on its ledger view is true."),
    "raise": (StageKind.GUARD, "Fails the job with a message."),
    "sleep": (StageKind.GUARD, "Holds the job for a while; nothing waits behind it."),
    "uses": (StageKind.WORK, "Calls a function marked with @tag."),
}


def registrations() -> list[StageRegistration]:
    """All of them, for the entry point `control`."""
    return [
        StageRegistration(
            metadata=StageMetadata(stage_type=name, description=description), kind=kind
        )
        for name, (kind, description) in _TYPES.items()
    ]
