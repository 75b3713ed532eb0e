"""G5: an event's id is the one that its cause gives, so whoever does a step again makes the same.

The formula is written out once more here, as protocol.md states it: the code under judgement is
not asked for it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from streams.engine.messages import ARRIVE, DEAD, DONE, INPUT, RETRY
from streams.event import NAMESPACE
from streams.testing.checker.decoding import Message
from streams.testing.checker.evidence import Evidence
from streams.testing.history import Violation

ORDINALS = {INPUT: 0, ARRIVE: 1, RETRY: 2, DEAD: 3, DONE: 5}


def check(evidence: Evidence) -> Iterator[Violation]:
    for message in evidence.messages:
        if message.type in ORDINALS and message.id != expected(message):
            what = f"{message.id} is not the id that its cause gives"
            yield Violation("C2", message.where, what)


def expected(message: Message) -> str:
    """UUIDv5 of (root, digest, S, part, epoch, turn, parent, ordinal), texts with their length."""
    texts = (message.root, message.digest, message.scope, message.part, message.parent)
    told = "".join(f"{len(text)}:{text}" for text in texts)
    name = f"event:{told}{message.epoch}:{message.turn}:{ORDINALS[message.type]}"
    return str(uuid.uuid5(NAMESPACE, name))
