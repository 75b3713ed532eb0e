"""The log's time: never ahead of the log, whatever a worker's own clock says."""

import io

from hypothesis import given
from hypothesis import strategies as st

from streams.clock import ManualClock
from streams.observe import logs
from streams.runtime.timekeeping import LogTime
from streams.settings import Settings

HOUR = 3_600_000
DAY = 24 * HOUR


class Wall(ManualClock):
    """A wall clock that can be set, beside a monotonic one that cannot."""

    off = 0

    def now(self):
        return super().now() + self.off

    @property
    def true(self):
        return super().now()


def told(clock):
    """Time, after a record was written and read back."""
    time = LogTime(clock)
    time.asks()
    time.saw(clock.true)
    time.heard()
    return time


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["pass", "set", "read"]),
            st.floats(0, 100),
            st.integers(-DAY, DAY),
        )
    )
)
def test_it_is_never_ahead_of_the_log_and_never_falls(steps):
    """G10: a deadline is never early, however often and however far the local clock is set."""
    clock = Wall()
    time = told(clock)
    seen = [time.now()]
    for what, seconds, off in steps:
        if what == "pass":
            clock.advance(seconds)
        elif what == "set":
            clock.off = off
        else:
            time.saw(clock.true - round(seconds))
        seen.append(time.now())
        assert clock.true - 2 <= seen[-1] <= clock.true
    assert seen == sorted(seen)


def test_old_records_do_not_set_it_back():
    """Restoring reads rows of last week."""
    clock = Wall()
    time = told(clock)
    time.saw(clock.true - 7 * DAY)
    assert clock.true - 2 <= time.now() <= clock.true


def test_old_records_alone_prove_little():
    """A keeper that has only read the past is late until it has asked: never early."""
    clock = Wall()
    time = LogTime(clock)
    time.saw(clock.true - HOUR)
    assert clock.true - HOUR - 2 <= time.now() <= clock.true - HOUR
    assert time.in_doubt


def test_who_was_asleep_asks_again():
    """A monotonic clock does not count while a machine is suspended; the wall clock does."""
    clock = Wall()
    time = told(clock)
    clock.advance(60)
    assert not time.in_doubt
    clock.off += 8 * HOUR
    assert time.in_doubt
    time.asks()
    assert not time.in_doubt
    clock.advance(2)
    assert time.in_doubt
    time.heard()
    assert not time.in_doubt


def test_a_clock_that_is_wrong_is_said_once_and_asked_about_once():
    """Not every second for as long as it is wrong."""
    clock = Wall()
    clock.off = DAY
    out = io.StringIO()
    logs.configure(Settings(log_format="json"), stream=out)
    time = told(clock)
    for _ in range(100):
        clock.advance(1)
        assert not time.in_doubt
    logs.configure(Settings())
    (line,) = out.getvalue().splitlines()
    assert '"clock.skewed"' in line
