"""faust-streaming: four agents, and a Table as the ledger.

Options: take= (events at a time), best=1 (bigger buffers), loop=uvloop, commit=, linger=, session=.
"""

import sys

from common import (
    BOOTSTRAP,
    FOLDER,
    HEADERS,
    MODE,
    OPTIONS,
    PARTITIONS,
    RUN,
    STAGES,
    ledger_next,
    topic,
    work,
)

if OPTIONS.get("loop") == "uvloop":
    import uvloop

    uvloop.install()

import faust
import orjson

TAKE = int(OPTIONS.get("take", "0"))
SENT_HEADERS = dict(HEADERS)


def settings():
    chosen = {}
    if "commit" in OPTIONS:
        chosen["broker_commit_interval"] = float(OPTIONS["commit"])
    if "session" in OPTIONS:
        session = float(OPTIONS["session"]) / 1000
        chosen["broker_session_timeout"] = session
        chosen["broker_heartbeat_interval"] = session / 3
    if "linger" in OPTIONS:
        chosen["producer_linger"] = float(OPTIONS["linger"])
    if OPTIONS.get("best"):
        chosen |= {
            "stream_buffer_maxsize": 16384,
            "broker_max_poll_records": 1000,
            "producer_linger": 0.005,
            "stream_publish_on_commit": False,
            "producer_max_batch_size": 262144,
        }
    return chosen


app = faust.App(
    RUN,
    broker=f"aiokafka://{BOOTSTRAP}",
    store="memory://",
    topic_partitions=PARTITIONS,
    topic_replication_factor=1,
    web_enabled=False,
    datadir=FOLDER,
    processing_guarantee="exactly_once" if MODE == "eos" else "at_least_once",
    value_serializer="raw",
    key_serializer="raw",
    **settings(),
)
# Inside take() a Table cannot tell the partition: "Cannot modify table key from outside of stream".
partitioned = {"use_partitioner": True} if TAKE else {}
ledger = app.Table("ledger", partitions=PARTITIONS, key_type=bytes, value_type=bytes, **partitioned)
topics = [
    app.topic(
        topic(stage),
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
        partitions=PARTITIONS,
    )
    for stage in range(STAGES + 1)
]


async def hop(event, stage):
    doc, out = work(event.value, stage)
    before = ledger.get(event.key)
    row = ledger_next(orjson.loads(before) if before else None, doc, stage)
    ledger[event.key] = orjson.dumps(row)
    await topics[stage + 1].send(key=event.key, value=out, headers=SENT_HEADERS)


def add(stage):
    async def one_by_one(stream):
        async for event in stream.events():
            await hop(event, stage)

    async def many_at_once(stream):
        async for events in stream.take_events(TAKE, within=0.02):
            for event in events:
                await hop(event, stage)

    app.agent(topics[stage], name=f"stage{stage}")(many_at_once if TAKE else one_by_one)


for each in range(STAGES):
    add(each)

if __name__ == "__main__":
    sys.argv = ["faust", "worker", "-l", "warn", "--without-web"]
    app.main()
