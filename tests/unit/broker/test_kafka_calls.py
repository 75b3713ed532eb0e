"""Calls of a client library that may block, from a loop that must not."""

import asyncio
import threading

import pytest

from streams.broker.kafka_calls import Hands
from streams.clock import SystemClock
from streams.errors import LogUnavailable


@pytest.fixture
async def hands():
    hands = Hands("client", SystemClock())
    yield hands
    await hands.end(lambda: None, 5)


async def test_calls_are_made_in_one_thread_in_their_order(hands):
    """The library's objects are not to be used by two threads at once."""
    seen = []

    def work(number):
        seen.append((number, threading.current_thread().name))
        return number

    answers = await asyncio.gather(*(hands.do(lambda n=n: work(n)) for n in range(3)))
    assert answers == [0, 1, 2]
    assert seen == [(0, "client"), (1, "client"), (2, "client")]


async def test_an_error_reaches_who_asked(hands):
    """And the thread lives on."""
    with pytest.raises(ZeroDivisionError):
        await hands.do(lambda: 1 / 0)
    assert await hands.do(lambda: "still here") == "still here"


async def test_a_call_that_does_not_come_back_makes_the_client_unusable():
    """The loop goes on; the worker opens a new client."""
    stuck, hands = threading.Event(), Hands("client", SystemClock())
    with pytest.raises(LogUnavailable, match=r"does not answer at threading\.py") as caught:
        await hands.do(stuck.wait, 0.01)
    assert caught.value.code == "K061"
    with pytest.raises(LogUnavailable):
        await hands.do(lambda: "too late")
    await hands.end(lambda: None, 5)
    stuck.set()


async def test_a_call_is_held_to_its_own_promise(monkeypatch):
    """librdkafka #5456: one that was given 5 s may never return; the commit must not wait for the
    watchdog of the whole."""
    monkeypatch.setattr("streams.broker.kafka_calls.GRACE", 0.0)
    monkeypatch.setattr("streams.broker.kafka_calls.LOOK", 0.01)
    stuck, hands = threading.Event(), Hands("client", SystemClock())

    def commit():
        with hands.watched(0.01):
            stuck.wait()

    with pytest.raises(LogUnavailable):
        await hands.do(commit, 60)
    assert hands.is_stuck
    stuck.set()


async def test_who_is_cancelled_can_still_get_the_answer(hands):
    """A poll that was cancelled has taken records from the library: they must not be lost."""
    go = threading.Event()
    asked = hands.ask(lambda: go.wait(5) and "records")
    waiting = asyncio.ensure_future(hands.answered(asked, 5))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    go.set()
    assert await hands.answered(asked, 5) == "records"


async def test_a_call_may_answer_and_go_on_with_the_next(hands):
    """What is revoked is given up by returning from a callback, which waits for the next poll."""
    steps = []

    def poll():
        steps.append(hands.hand_over("revoked", 5))
        return "given up"

    assert await hands.do(poll) == "revoked"
    assert await hands.do(lambda: "positions") == "positions"
    assert steps == []
    assert await hands.answered(hands.ask(poll, resumes=True), 5) == "given up"
    assert steps == [True]


async def test_waiting_for_the_next_call_has_an_end(hands):
    """A loop that never comes back must not hold up the group."""
    waited = threading.Event()

    def poll():
        assert not hands.hand_over("revoked", 0.01)
        assert not hands.is_awaited
        waited.set()

    assert await hands.do(poll) == "revoked"
    assert await asyncio.to_thread(waited.wait, 5)
    assert await hands.do(lambda: "next") == "next"


async def test_closing_ends_a_wait_for_the_next_call():
    """A worker that stops does not sit out the wait."""
    hands, ended = Hands("client", SystemClock()), []

    def poll():
        ended.append(hands.hand_over("revoked", 60))

    assert await hands.do(poll) == "revoked"
    await hands.end(lambda: ended.append("closed"), 5)
    assert ended == [False, "closed"]
