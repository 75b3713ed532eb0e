"""A process on an embedded log, told by its arguments what to do; started by the tests beside it.

python local_log_process.py FILE write NAME         transactions without end: NAME:n in 2 topics
python local_log_process.py FILE work MEMBER        in -> out exactly once, without end
python local_log_process.py FILE zombie MEMBER      takes `in`, says "ready", waits for a line, commits
python local_log_process.py FILE create             opens the file and makes a topic
"""

import asyncio
import sys
from pathlib import Path

from streams.broker.local import LocalLog
from streams.broker.port import Committed, Outgoing, TopicSpec, Transaction
from streams.clock import SystemClock
from streams.errors import Fenced


def say(text):
    print(text, flush=True)


async def write(log, name):
    producer = await log.producer(name)
    n = 0
    while True:
        token = b"%s:%d" % (name.encode(), n)
        parts = [Outgoing("in", token, token, partition=p) for p in range(4)]
        rows = [Outgoing("rows", token, token, partition=0)] * 3
        await producer.commit(Transaction(parts + rows))
        say(n)
        n += 1


async def work(log, member):
    consumer = log.consumer("g", member)
    await consumer.subscribe(["in"])
    producer = await log.producer("p-" + member)
    say("ready")
    while True:
        poll = await consumer.poll(5, 1)
        if not poll.records:
            continue
        moved = {record.place: Committed(record.offset + 1) for record in poll.records}
        done = [Outgoing("out", r.key, r.value, partition=0) for r in poll.records]
        try:
            await producer.commit(Transaction(done, moved, poll.membership))
        except Fenced:
            say("fenced")
            for place in moved:
                await consumer.committed([place])


async def zombie(log, member):
    consumer = log.consumer("g", member)
    await consumer.subscribe(["in"])
    producer = await log.producer("p-" + member)
    poll = await consumer.poll(5, 1)
    while not poll.assigned:
        poll = await consumer.poll(5, 1)
    moved = {place: Committed(99) for place in poll.assigned}
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    try:
        await producer.commit(Transaction([Outgoing("out", b"z", b"z")], moved, poll.membership))
        say("committed")
    except Fenced:
        say("fenced")


async def create(log):
    await log.create_topics([TopicSpec("t", 3)])
    await log.close()
    say("done")


async def main(path, verb, *names):
    log = LocalLog.open(Path(path), clock=SystemClock(), session_ms=600)
    await {"write": write, "work": work, "zombie": zombie, "create": create}[verb](log, *names)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
