"""The dead letters of a trial, as they stand in the topic."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from streams.testing.history import History


class Letter(msgspec.Struct, frozen=True):
    """A dead letter: the record as it came, where it came from, and why it is here."""

    key: bytes | None
    value: bytes | None
    topic: str
    partition: str
    offset: str
    reason: str
    job: str


def letters(history: History) -> Iterator[Letter]:
    """Those that were committed."""
    for record in history.records:
        if record.place.topic != history.naming.dead:
            continue
        seen = history.transactions.get(record.transaction)
        if record.transaction and (seen is None or seen.outcome != "committed"):
            continue
        said = {
            name.removeprefix("streams-dlq-"): (raw or b"").decode(errors="replace")
            for name, raw in record.headers
            if name.startswith("streams-dlq-")
        }
        yield Letter(
            record.key,
            record.value,
            *(said.get(name, "") for name in ("topic", "partition", "offset", "reason", "job")),
        )
