"""C2: everything is done once: no event twice, no dead letter twice, one `done` for each epoch.

An event is known again by its id; that each has the id that its cause gives is judged in `ids`.
"""

from __future__ import annotations

from collections.abc import Iterator

from streams.engine.messages import ARRIVE, DEAD, DONE, INPUT, RETRY
from streams.testing.checker.decoding import Message
from streams.testing.checker.evidence import Evidence
from streams.testing.checker.jobs import done_events
from streams.testing.history import Violation

ENGINE = frozenset({INPUT, ARRIVE, RETRY, DEAD, DONE})
"""Types that only the engine publishes. What comes from outside may be sent twice."""


def check(evidence: Evidence) -> Iterator[Violation]:
    first: dict[tuple[str, str, int], Message] = {}
    for message in evidence.messages:
        if message.type not in ENGINE:
            continue
        key = (message.place.topic, message.id, evidence.lives.get(message.number, 0))
        other = first.setdefault(key, message)
        if other is not message:
            what = f"event {message.id} stands at {other.where} already"
            yield Violation("C2", message.where, what)
    for (job, _, epoch), done in done_events(evidence).items():
        if len(done) > 1:
            yield Violation("C2", f"{job} epoch {epoch}", f"is told as done {len(done)} times")
    yield from _letters(evidence)


def _letters(evidence: Evidence) -> Iterator[Violation]:
    """A part that failed for good has one dead letter."""
    seen: set[tuple[str, str, str, str]] = set()
    for letter in evidence.letters:
        if not letter.stage or not letter.id:
            continue
        key = (letter.id, letter.stage, letter.job, letter.epoch)
        if key in seen:
            what = f"{letter.stage} of {letter.job} is among the dead letters twice"
            yield Violation("C2", f"dead letter {letter.id}", what)
        seen.add(key)
