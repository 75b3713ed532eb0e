"""A loop in virtual time: waits cost nothing, order is always the same, clocks may be wrong."""

import asyncio
import threading
import time

import pytest

from streams.testing.virtual_time import START, Stuck, VirtualClock, VirtualLoop, virtual_loop

YEAR = 365 * 86_400


def played(work, **more):
    """What the async function gives, on a virtual loop of its own."""
    with virtual_loop(**more) as loop:
        return loop.run(work(loop))


def test_years_of_waiting_take_no_time():
    """Gates wait for weeks; a test must not."""

    async def work(loop):
        await asyncio.sleep(3 * YEAR)
        return loop.time()

    began = time.process_time()
    assert played(work) == pytest.approx(3 * YEAR)
    assert time.process_time() - began < 1


def test_timers_fire_in_the_order_of_their_times():
    """Not in that of their making."""

    async def work(loop):
        heard = []

        async def say(after):
            await asyncio.sleep(after)
            heard.append((after, loop.time()))

        await asyncio.gather(say(3), say(1), say(2))
        return heard

    assert played(work) == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_timers_of_one_moment_fire_in_the_order_in_which_they_were_set():
    """A heap alone would mix them, the same way each time but hard to follow."""

    async def work(loop):
        heard = []
        for number in range(20):
            loop.call_at(5.0, heard.append, number)
        await asyncio.sleep(6)
        return heard

    assert played(work) == list(range(20))


def test_cancelled_timers_do_not_pile_up():
    """A poll sets one and cancels it, for years."""

    async def work(loop):
        kept = loop.call_later(YEAR, lambda: None)
        for _ in range(10_000):
            loop.call_later(YEAR, lambda: None).cancel()
        kept.cancel()
        return len(loop._timers)

    assert played(work) < 300


def test_timers_in_vain_are_counted_as_they_are():
    """Those that fired or were thrown away are none; a wrong count would rebuild the heap all day,
    or never."""

    async def work(loop):
        counts = []
        for number in range(300):
            timer = loop.call_later(number % 7, lambda: None)
            if number % 3:
                timer.cancel()
            if number % 50 == 0:
                await asyncio.sleep(3)
                timer.cancel()
            cancelled = sum(each.cancelled() for _, _, each in loop._timers)
            counts.append(loop._vain == cancelled)
        return all(counts)

    assert played(work)


def test_a_cancelled_timer_neither_fires_nor_moves_time():
    """Time goes on to the next one that counts."""

    async def work(loop):
        fired = []
        loop.call_later(1, fired.append, 1).cancel()
        loop.call_later(2, fired.append, 2)
        later = loop.call_later(3, fired.append, 3)
        loop.call_later(2, later.cancel)
        await asyncio.sleep(4)
        return fired, loop.time()

    assert played(work) == ([2], 4.0)


def test_time_stands_still_while_something_is_ready():
    """However long the work takes, it takes no time of the loop."""

    async def work(loop):
        asyncio.get_running_loop().call_later(0.5, lambda: None)
        for _ in range(1000):
            await asyncio.sleep(0)
        return loop.time()

    assert played(work) == 0.0


def test_waiting_for_nothing_is_said_to_be_so():
    """In real life it would hang for ever."""

    async def work(loop):
        await loop.create_future()

    with pytest.raises(Stuck):
        played(work)


def test_a_time_limit_ends_what_takes_too_long():
    """`asyncio.timeout` counts the loop's time."""

    async def work(loop):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.sleep(31)
        return loop.time()

    assert played(work) == 30.0


def test_work_for_another_thread_is_done_on_the_spot():
    """What comes first is never decided by a scheduler."""

    async def work(loop):
        here = threading.get_ident()
        return [await asyncio.to_thread(threading.get_ident) == here for _ in range(3)]

    assert played(work) == [True, True, True]


def test_an_error_of_work_for_another_thread_reaches_who_awaits_it():
    """On the spot or not, it is theirs."""

    async def work(loop):
        await asyncio.to_thread(int, "x")

    with pytest.raises(ValueError, match="invalid literal"):
        played(work)


def test_time_waits_for_a_thread_that_is_at_work():
    """Where a real thread cannot be avoided, no timer may overtake it."""
    working = threading.Event()

    async def work(loop):
        done = loop.create_future()

        def run():
            time.sleep(0.02)
            loop.call_soon_threadsafe(done.set_result, None)
            working.clear()

        working.set()
        thread = threading.Thread(target=run)
        thread.start()
        loop.call_later(60, lambda: None)
        await done
        thread.join()
        return loop.time()

    assert played(work, busy=working.is_set) == 0.0


def test_sets_of_tasks_are_gone_through_in_the_order_of_their_making():
    """`asyncio.wait` gives sets; by memory address, each run would be another."""

    async def work(loop):
        async def nothing():
            return None

        tasks = [asyncio.create_task(nothing(), name=f"t{n}") for n in range(8)]
        done, _ = await asyncio.wait(tasks)
        return [task.get_name() for task in done]

    runs = {tuple(played(work)) for _ in range(5)}
    assert len(runs) == 1


def test_what_is_left_running_is_cancelled_at_the_end():
    """One run leaves nothing to the next."""
    ended = []

    async def left():
        try:
            await asyncio.sleep(YEAR)
        finally:
            ended.append(True)

    async def work(loop):
        task = asyncio.ensure_future(left())
        await asyncio.sleep(1)
        return task

    assert played(work).cancelled()
    assert ended == [True]


def test_a_wall_clock_leaps_without_a_timer_firing():
    """Deadlines are judged by the wall clock, waits by the loop: the two must be told apart."""

    async def work(loop):
        clock = VirtualClock(loop)
        fired = []
        loop.call_later(10, fired.append, True)
        clock.leap(400 * 86_400)
        await clock.sleep(1)
        return clock.now() - START, clock.monotonic(), fired

    assert played(work) == (400 * 86_400_000 + 1_000, 1.0, [])


def test_two_machines_on_one_loop_may_differ_in_their_clocks():
    """F18: two workers ten minutes apart."""

    async def work(loop):
        right, wrong = VirtualClock(loop, seed=1), VirtualClock(loop, seed=2)
        wrong.offset = -600_000
        await right.sleep(2)
        return right.now() - wrong.now(), right.monotonic() == wrong.monotonic()

    assert played(work) == (600_000, True)


def test_chance_and_ids_follow_from_the_seed():
    """One seed, one run."""
    loop = VirtualLoop()
    draws = []
    for seed in (1, 1, 2):
        clock = VirtualClock(loop, seed=seed)
        draws.append((clock.random(), clock.new_id()))
    loop.close()

    assert draws[0] == draws[1] != draws[2]
    assert len(draws[0][1]) == 32
