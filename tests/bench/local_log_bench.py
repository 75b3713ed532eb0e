"""Figures of the embedded log: python tests/bench/local_log_bench.py [--records 50000]

Appending through one producer, appending and consuming end to end in one loop, a pipeline of four
stages (each hop reads one record and writes an event and a row, the row read by a second reader),
commit latency, the same with two processes, and what an idle process costs.
"""

import argparse
import asyncio
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

from streams.broker.local import LocalLog
from streams.broker.port import Committed, Outgoing, TopicPartition, TopicSpec, Transaction
from streams.clock import SystemClock
from streams.errors import Fenced

VALUE = b"x" * 1000
ROW = b"r" * 250
HEADERS = tuple((f"ce_{n}", b"value-of-a-header") for n in range(8))


def opened(path):
    return LocalLog.open(path, clock=SystemClock())


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def appending(path, count, batch, name="p", together=None):
    log = opened(path)
    await log.create_topics([TopicSpec("t", 4)])
    producer = await log.producer(name)
    if together is not None:
        together.wait(30)  # else the first process may be done before the second one begins
    start = time.perf_counter()
    for first in range(0, count, batch):
        records = [
            Outgoing("t", b"%d" % n, VALUE, HEADERS, n % 4) for n in range(first, first + batch)
        ]
        await producer.commit(Transaction(records))
    took = time.perf_counter() - start
    await log.close()
    return count / took


async def latency(path, commits):
    log = opened(path)
    await log.create_topics([TopicSpec("t", 4)])
    producer = await log.producer("p")
    times = []
    for n in range(commits):
        records = [Outgoing("t", b"k", VALUE, HEADERS, n % 4)] * 10
        start = time.perf_counter()
        await producer.commit(Transaction(records))
        times.append(time.perf_counter() - start)
    times.sort()
    await log.close()
    return times[len(times) // 2] * 1000, times[len(times) * 99 // 100] * 1000, times[-1] * 1000


async def end_to_end(path, count, batch):
    log = opened(path)
    await log.create_topics([TopicSpec("t", 4)])
    consumer = log.consumer("g", "m")
    await consumer.subscribe(["t"])
    while not (await consumer.poll(1, 0.1)).assigned:
        pass
    producer = await log.producer("p")
    start = time.perf_counter()

    async def write():
        for first in range(0, count, batch):
            many = [Outgoing("t", b"k", VALUE, HEADERS, n % 4) for n in range(first, first + batch)]
            await producer.commit(Transaction(many))

    task = asyncio.ensure_future(write())
    seen = 0
    while seen < count:
        seen += len((await consumer.poll(1000, 1)).records)
    await task
    took = time.perf_counter() - start
    await log.close()
    return count / took


async def stage(log, number, stop, done):
    """A stage agent: reads its topic, commits next event + row + offset."""
    consumer = log.consumer(f"g{number}", "m")
    await consumer.subscribe([f"s{number}"])
    producer = await log.producer(f"p{number}")
    while not stop.is_set():
        poll = await consumer.poll(500, 0.2)
        if not poll.records:
            continue
        out = []
        offsets = {}
        for record in poll.records:
            out.append(Outgoing(f"s{number + 1}", record.key, VALUE, HEADERS, record.partition))
            out.append(Outgoing("ledger", record.key, ROW, (), record.partition))
            offsets[record.place] = Committed(record.offset + 1, "1;0;;5;")
        try:
            await producer.commit(Transaction(out, offsets, poll.membership))
        except Fenced:
            continue
        done[number] += len(poll.records)
    await consumer.close()


async def ledger(log, stop, done):
    reader = log.reader()
    reader.assign({TopicPartition("ledger", p): 0 for p in range(4)})
    while not stop.is_set():
        done["rows"] += len(await reader.poll(1000, 0.2))


async def pipeline(path, jobs):
    log = opened(path)
    await log.create_topics([TopicSpec(f"s{n}", 4) for n in range(5)] + [TopicSpec("ledger", 4)])
    stop, done = asyncio.Event(), dict.fromkeys([*range(4), "rows"], 0)
    for first in range(0, jobs, 1000):
        await log.publish(
            [Outgoing("s0", b"%d" % n, VALUE, HEADERS, n % 4) for n in range(first, first + 1000)]
        )
    tasks = [asyncio.ensure_future(stage(log, n, stop, done)) for n in range(4)]
    tasks.append(asyncio.ensure_future(ledger(log, stop, done)))
    start, used = time.perf_counter(), cpu()
    while done["rows"] < 4 * jobs:
        await asyncio.sleep(0.01)
    took, used = time.perf_counter() - start, cpu() - used
    stop.set()
    await asyncio.gather(*tasks)
    await log.close()
    return 4 * jobs / took, used / (4 * jobs) * 1e6


def writing_process(path, count, name, together, pipe):
    pipe.send(asyncio.run(appending(Path(path), count, 100, name, together)))


def two_processes(path, count):
    """The rate of each; a producer's name of its own, or one would rightly fence the other."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(2)
    pipes, processes = [], []
    for name in ("p1", "p2"):
        ours, theirs = context.Pipe()
        args = (str(path), count, name, together, theirs)
        processes.append(context.Process(target=writing_process, args=args))
        processes[-1].start()
        theirs.close()  # so that a process that fails ends our waiting
        pipes.append(ours)
    rates = [pipe.recv() for pipe in pipes]
    for process in processes:
        process.join()
    return rates


async def idle(path, seconds):
    log = opened(path)
    await log.create_topics([TopicSpec("t", 4)])
    consumers = [log.consumer("g", f"m{n}") for n in range(4)]
    for consumer in consumers:
        await consumer.subscribe(["t"])

    async def poll(consumer):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            await consumer.poll(100, 1)

    used = cpu()
    await asyncio.gather(*(poll(consumer) for consumer in consumers))
    used = cpu() - used
    await log.close()
    return used / seconds * 100


async def wake_up(folder, rounds):
    """From a commit in one access to the record in another, as between two processes."""
    one, two = opened(folder / "wake.db"), opened(folder / "wake.db")
    await one.create_topics([TopicSpec("t", 1)])
    reader = two.reader()
    reader.assign({TopicPartition("t", 0): 0})
    times = []
    for n in range(rounds):
        waiting = asyncio.ensure_future(reader.poll(1, 5))
        await asyncio.sleep(0.001 * (n % 30))
        start = time.perf_counter()
        await one.publish([Outgoing("t", None, b"x")])
        await waiting
        times.append(time.perf_counter() - start)
    times.sort()
    await one.close()
    await two.close()
    return times[len(times) // 2] * 1000, times[-1] * 1000


async def main(count):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, path in (("memory", lambda _: None), ("file", lambda n: folder / f"{n}.db")):
            for batch in (10, 100, 1000):
                rate = await appending(path(f"a{batch}"), count, batch)
                print(f"{kind}: append, {batch} a transaction: {rate:,.0f} records/s")
            print(f"{kind}: end to end: {await end_to_end(path('e'), count, 100):,.0f} records/s")
            rate, each = await pipeline(path("p"), count // 4)
            print(
                f"{kind}: four stages and a ledger reader: {rate:,.0f} hops/s, {each:.0f} us CPU/hop"
            )
            p50, p99, worst = await latency(path("l"), 2000)
            print(f"{kind}: commit of 10: p50 {p50:.2f} ms, p99 {p99:.2f} ms, worst {worst:.1f} ms")
        rates = two_processes(folder / "two.db", count)
        shown = " + ".join(f"{rate:,.0f}" for rate in rates)
        print(f"file: two processes appending at once: {shown} records/s")
        p50, worst = await wake_up(folder, 200)
        print(f"file: wake-up of another access: p50 {p50:.1f} ms, worst {worst:.1f} ms")
        print(f"file: idle with 4 waiting members: {await idle(folder / 'idle.db', 5):.2f} % CPU")
    print(f"memory used at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=50_000)
    asyncio.run(main(parser.parse_args().records))
