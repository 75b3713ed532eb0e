"""What became of each job: its epochs, as its `@job` row and its `done` events tell them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import msgspec

from streams.engine.messages import DONE
from streams.engine.rows import PUBLIC, JobRow, Row
from streams.testing.checker.decoding import Message, Version
from streams.testing.checker.evidence import Evidence


class Life(msgspec.Struct):
    """A job from its submission to its purge. The same id may live again after that."""

    scope: str
    number: int
    """How often the id had been purged before."""
    versions: list[Version] = []
    purge: Version | None = None
    """The tombstone of its `@job` row."""

    @property
    def last(self) -> JobRow:
        row = self.versions[-1].row
        assert isinstance(row, JobRow)
        return row

    def end_of(self, epoch: int) -> Version | None:
        """The version by which the epoch ended."""
        return next(
            (v for v in self.versions if v.order and v.order.epoch == epoch and _ended(v)), None
        )


def lives(evidence: Evidence) -> Iterator[Life]:
    """Every job that the ledger knows or knew."""
    for (_, scope, part), versions in evidence.by_row.items():
        if part != "@job":
            continue
        number, life = 0, Life(scope, 0)
        for version in versions:
            if version.row is None:
                life.purge = version
                if life.versions:
                    yield life
                number += 1
                life = Life(scope, number)
            else:
                life.versions.append(version)
        if life.versions:
            yield life


def done_events(evidence: Evidence) -> dict[tuple[str, int, int], list[Message]]:
    """Job, life and epoch → what `done` says of it."""
    found: dict[tuple[str, int, int], list[Message]] = defaultdict(list)
    for message in evidence.messages:
        if message.type == DONE:
            life = evidence.lives.get(message.number, 0)
            found[message.scope, life, message.epoch].append(message)
    return found


def status_in(done: Message) -> str:
    """The status that a `done` event tells the world."""
    body: dict[str, object] = msgspec.json.decode(done.value or b"{}")
    return str(body.get("status", ""))


def public_status(version: Version) -> str:
    assert isinstance(version.row, JobRow)
    return PUBLIC[version.row.status]


def is_held(evidence: Evidence, scope: str) -> bool:
    """Whether the job rightly waits for something at the end of the run: a gate without a deadline,
    or a time that has not come."""
    standing: dict[str, Version] = {}
    for version in evidence.by_scope[scope]:
        standing[version.part] = version
    return any(
        isinstance(row := version.row, Row)
        and row.status == "WAITING"
        and row.wait is not None
        and row.wait.kind in ("gate", "sleep", "retry")
        and (row.wait.due is None or row.wait.due > evidence.history.ended)
        for part, version in standing.items()
        if not part.startswith("@")
    )


def _ended(version: Version) -> bool:
    return isinstance(version.row, JobRow) and version.row.ended
