"""Rows in memory: what is done at once to all ways into a join is what is done to each of them."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streams.engine.rows import JobRow, Parked, Row, Wait
from streams.runtime.inprocess_flow import Post
from streams.runtime.inprocess_rows import Rows, RunTurn
from streams.topology.plan import Edge, Naming, Part, Plan

JOINS, WAYS = ("j", "k"), ("a", "b", "c")
PLAN = Plan(
    "p", "1",
    (
        *(Part(way, "stage", "t", edges=tuple(map(Edge, JOINS))) for way in WAYS),
        *(Part(join, "stage", "t", needs=WAYS) for join in JOINS),
    ),
)  # fmt: skip

joins, ways = st.sampled_from(JOINS), st.sampled_from(WAYS)
steps = st.one_of(
    st.tuples(st.just("arrive"), joins, ways),
    st.tuples(st.just("spend"), joins),
    st.tuples(st.just("end"), ways),
    st.just(("sweep",)),
    st.just(("read",)),
)


def arrival(join, way):
    wait = Wait("arrival", 5, event=Parked(parent=f"{way}-{join}", payload=msgspec.Raw(b"{}")))
    return Row("WAITING", phase=0, plan="d", root="j", at=5, wait=wait)


class Scene:
    """One scope, by a turn that does things at once, or one that could undo each of them."""

    def __init__(self, *, may_undo):
        self.rows = Rows("s", PLAN, frozenset((*WAYS, *JOINS)))
        self.rows.put("@job", JobRow("RUNNING", phase=1))
        self.turn = RunTurn(
            self.rows, Post("s", "d"), Naming("n", "p"), {"d": PLAN}, "d", {}, 7, "w", {},
            may_undo=may_undo,
        )  # fmt: skip
        self.seen = []

    def do(self, step):
        kind, *rest = step
        found = self.turn.read("s")
        if kind == "arrive" and self.turn.arrival("s", *rest) is None:
            self.turn.keep_arrival("s", *rest, arrival(*rest))
        elif kind == "spend" and rest[0] in found.arrivals:
            self.turn.spend("s", rest[0], found.arrivals[rest[0]])
        elif kind == "end":
            self.turn.put("s", rest[0], Row("SUCCESS", taken=JOINS))
        elif kind == "sweep":
            self.turn.sweep("s", found)
        elif kind == "read":
            self.seen.append((found, msgspec.json.encode(found)))

    @property
    def told(self):
        """Everything that can be read of it."""
        return dict(self.turn.rows("s")), msgspec.json.encode(self.turn.read("s"))


@given(st.lists(steps, max_size=25))
def test_what_is_done_at_once_is_what_is_done_one_by_one(script):
    """A join of a thousand ways is kept, fired and swept in a few steps; the rows are those of the
    worker's keeper, which writes each of them. Nor does either change what somebody has read."""
    at_once, one_by_one = Scene(may_undo=False), Scene(may_undo=True)
    for step in script:
        at_once.do(step)
        one_by_one.do(step)

        rows, read = at_once.told
        assert (rows, msgspec.json.decode(read)) == (
            one_by_one.told[0], msgspec.json.decode(one_by_one.told[1]),
        )  # fmt: skip
    for scene in (at_once, one_by_one):
        for found, then in scene.seen:
            assert msgspec.json.encode(found) == then


def test_a_turn_that_is_decided_again_finds_the_rows_as_they_were():
    """The ways into a join are companions of their own, and go back like any other row."""
    scene = Scene(may_undo=True)
    scene.do(("arrive", "j", "a"))
    before = dict(scene.turn.rows("s"))
    scene.turn.next_input()

    for step in [("arrive", "j", "b"), ("spend", "j"), ("end", "c"), ("sweep",)]:
        scene.do(step)
    scene.turn.undo_input()

    assert dict(scene.turn.rows("s")) == before
    assert set(scene.turn.read("s").arrivals["j"]) == {"a"}
