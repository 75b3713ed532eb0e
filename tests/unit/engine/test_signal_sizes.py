"""What may be set from outside stays small: gates read it, and events carry it."""

import pytest

from streams.engine.messages import SIGNAL
from streams.engine.signals import read_signal
from streams.errors import EventError
from streams.event import Event
from tests.unit.runtime.rig import Rig, running

GATED = """
gates: {g: {after: one, until: facts.ok}}
stages: [{name: one, type: t}, {name: two, type: t, depends_on: [one]}]
"""


def test_one_signal_holds_at_most_48_kib():
    """Anybody may send one (row 21)."""
    value = {"kind": "fact", "facts": {"a": "x" * 48 * 1024}}

    with pytest.raises(EventError) as caught:
        read_signal(Event.make(id="s", source="/s", type=SIGNAL, value=value))

    assert caught.value.code == "V060"


async def test_the_facts_of_a_job_are_bounded_together_and_may_be_set_again(tmp_path):
    """Four of 30 KB are too many; another value for one that is there is not one more."""
    rig = Rig(tmp_path, GATED, stages={"t": lambda ctx: None})
    async with running(rig):
        await rig.submit()
        for n in range(5):
            await rig.signal("fact", facts={f"f{n}": "x" * 30_000})
        await rig.signal("fact", facts={"f1": "y" * 30_000})
        await rig.signal("fact", facts={"ok": True})
        await rig.view_when("j", "succeeded")

        assert await rig.dead() == ["V060"]
        facts = {part for part in await rig.rows() if part.startswith("@fact/")}
        assert facts == {"@fact/f0", "@fact/f1", "@fact/f2", "@fact/f3", "@fact/ok"}
