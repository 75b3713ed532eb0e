"""The keeper's decisions, one function for each thing that can happen.

Each takes a turn and what happened; afterwards the turn holds all that follows from it.
"""

from __future__ import annotations

from streams.engine import arrivals, completion, gates, intake, signals
from streams.engine import payload as payloads
from streams.engine.actions import PutControl
from streams.engine.messages import SIGNAL, Delivery
from streams.engine.turn import Turn
from streams.errors import EventError
from streams.event import Event

ORPHANED_ROWS_STAY = 24 * 3600 * 1000
"""How long (ms) a row of a job that is not there stays: a late writer left it."""


def came_in(turn: Turn, event: Event, scope: str) -> None:
    """A submission or signal whose state is here. Raises `EventError` for the dead letters."""
    if scope.startswith(("@global/", "@pause/")):
        signals.apply_shared(turn, event)
    elif event.type == SIGNAL:
        signals.apply(turn, event, scope)
    else:
        intake.submit(turn, event, scope)


def arrived(turn: Turn, delivery: Delivery) -> None:
    """An engine event of the hold topic. Raises `EventError` for the dead letters."""
    payloads.decode(delivery.data)  # What is no payload must never get into a row.
    arrivals.handle(turn, delivery)
    completion.follow(turn, delivery.scope)


def row_seen(turn: Turn, scope: str, *, closing: bool, holds: bool) -> None:
    """An agent's row has been read: gates of its scope may open, its job may be over."""
    if holds:
        gates.look_again(turn, scope)
    if closing or holds:
        completion.follow(turn, scope)


def fact_changed(turn: Turn, scope: str) -> None:
    """A shared fact has changed that a gate of this scope reads."""
    gates.look_again(turn, scope)
    completion.follow(turn, scope)


def time_came(turn: Turn, scope: str, part: str) -> int | None:
    """A deadline, a delay or a retention has passed. Answers when to look again, if ever."""
    if part == "@job":
        return completion.time_for_job(turn, scope)
    if part == "@orphan":
        if turn.read(scope).job is None:
            completion.forget(turn, scope, scope)
        return None
    if part == "@look":
        look_over(turn, scope)
        return None
    if part == "@stop":
        if not turn.rows(scope):
            turn.do(PutControl(f"stop/{scope}", None))
        return None
    if part.endswith("~"):
        signals.retry_now(turn, scope, part[:-1])
        return None
    gates.time_is_up(turn, scope, part)
    completion.follow(turn, scope)
    return None


def look_over(turn: Turn, scope: str) -> None:
    """A new owner looks at an open job once: what changed meanwhile is noticed here."""
    gates.look_again(turn, scope, counted=False)
    completion.follow(turn, scope)


def unclaimed(turn: Turn, scope: str, part: str) -> tuple[Event, EventError] | None:
    """A signal whose job never came: dropped here, for the dead letters there."""
    for event, kept in signals.early_signals(turn, scope):
        if kept == part:
            turn.drop(scope, part)
            return event, EventError(f"no job {scope}", code="V046", field="job")
    return None
