"""Who waits at which gate and since when, counted without a memory of each."""

from hypothesis import given
from hypothesis import strategies as st

from streams.engine.rows import Parked, Row, Wait, encode
from streams.runtime.waiting import WaitingJobs, gate_since, waits


def held(since, kind="gate", looks=0):
    return encode(Row("WAITING", phase=0, wait=Wait(kind, since, event=Parked("x"), looks=looks)))


def over():
    return encode(Row("SUCCESS"))


def test_a_row_is_told_by_how_it_begins():
    """The status stands first, whatever else the row holds: nothing else is read of most rows."""
    assert gate_since(held(5_000)) == 5_000
    assert gate_since(held(5_000, kind="sleep")) is None
    assert waits(held(5_000, kind="sleep"))
    assert gate_since(over()) is None
    assert not waits(over())
    assert gate_since(encode(Row("SUCCESS", reason='{"s":"WAITING"'))) is None
    assert gate_since(None) is None


def test_the_first_is_the_one_that_came_first_and_waits_still():
    """The alert on a forgotten gate needs the oldest, not the last."""
    waiting = WaitingJobs()
    waiting.changed("go", None, held(9_000))
    waiting.changed("go", None, held(4_999))
    waiting.changed("other", None, held(1_000, kind="sleep"))
    assert waiting.gates() == {"go": (2, 4_000)}

    waiting.changed("go", held(4_999), held(4_999, looks=3))
    waiting.changed("go", held(4_999), over())
    assert waiting.gates() == {"go": (1, 9_000)}

    waiting.changed("go", held(9_000), None)
    assert waiting.gates() == {}


def test_rows_of_the_engine_are_none_that_wait_at_a_gate():
    """`@early/…` rows are WAITING, too."""
    waiting = WaitingJobs()
    waiting.changed("@early/1", None, held(1))
    assert waiting.gates() == {}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.one_of(
                st.none(),
                st.builds(held, st.integers(0, 10**13)),
                st.just(over()),
                st.builds(held, st.integers(0, 10**13), st.just("sleep")),
            ),
        )
    )
)
def test_counts_are_those_of_the_rows_that_stand(changes):
    """Whatever follows what: the counts never drift."""
    waiting, rows = WaitingJobs(), {}
    for job, data in changes:
        waiting.changed("go", rows.get(job), data)
        rows[job] = data
    standing = [since for data in rows.values() if (since := gate_since(data)) is not None]

    expected = {"go": (len(standing), min(standing) // 1000 * 1000)} if standing else {}
    assert waiting.gates() == expected
