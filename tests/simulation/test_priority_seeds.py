"""Jobs of all priorities under every fault: what is taken before its turn is done once, too."""

import zlib

import pytest

from streams.codec import kafka
from streams.engine.frontier import Frontier
from streams.engine.messages import SUBMIT
from streams.event import Event
from streams.runtime import agent
from tests.simulation.judge import search

WORDS = ("low", "low", "high", "normal")


@pytest.fixture
def ahead(monkeypatch):
    """Submissions have priorities, and an agent holds so little that others wait behind low ones;
    gives the offsets that were taken before their turn."""
    found = []
    encode, start_ahead = kafka.encode, Frontier.start_ahead

    def with_priority(event):
        if isinstance(event, Event) and event.type == SUBMIT:
            word = WORDS[zlib.crc32(str(event.extensions["job"]).encode()) % len(WORDS)]
            event = event.with_extensions(priority=word)
        return encode(event)

    def noted(frontier, offset, after=None):
        taken = start_ahead(frontier, offset, after)
        if taken:
            found.append(offset)
        return taken

    monkeypatch.setattr(kafka, "encode", with_priority)
    monkeypatch.setattr(Frontier, "start_ahead", noted)
    monkeypatch.setattr(agent, "MOST_IN_HAND", 1)
    monkeypatch.setattr(agent, "AT_ONCE", 2)
    return found


def test_every_rule_of_the_judge_holds_with_priorities(ahead):
    """C1-C9: nothing lost, nothing doubled, offsets never forget what ran before its turn."""
    assert search(range(80)) == {}
    assert len(ahead) > 20
