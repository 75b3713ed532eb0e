"""Holds every committed row of a test against the table of transitions, its writer included.

The log is given producers that sign the ledger records they commit. At the end of a test the whole
ledger is read: each signed record has to be a change that the table lets this writer make. Records
without a signature are the test's own forgeries: they are where others start from, not judged.
"""

import msgspec

from streams.broker.port import TopicPartition, Transaction
from streams.engine.rows import Address, decode, head
from streams.engine.transitions import Change, change_of, is_legal
from streams.topology.plan import Plan

SIGNATURE = "test-writer"
UNSIGNED = b""


class SigningLog:
    """The log, with producers that sign. Everything else is the log's own."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def producer(self, transactional_id):
        return SigningProducer(transactional_id, await self._inner.producer(transactional_id))


class SigningProducer:
    def __init__(self, name, inner):
        self._signature = (SIGNATURE, name.encode())
        self._inner = inner

    async def commit(self, transaction):
        records = [
            msgspec.structs.replace(record, headers=(*record.headers, self._signature))
            if record.topic.endswith(".ledger")
            else record
            for record in transaction.records
        ]
        await self._inner.commit(Transaction(records, transaction.offsets, transaction.membership))

    async def close(self):
        await self._inner.close()


def writer_of(record):
    """Who wrote it, by the group in its producer's id; None for what nobody signed."""
    name = dict(record.headers).get(SIGNATURE, UNSIGNED).decode()
    if not name:
        return None
    return "keeper" if ".keeper." in name else "agent"


async def judge_rows(log, naming):
    """Every change that was signed, in the order of the log. Fails on the first illegal one."""
    if naming.ledger not in await log.topics():
        return []
    plans = await _plans(log, naming)
    rows, judged = {}, []
    for record in await read_all(log, naming.ledger):
        before, after = rows.get(record.key), record.value
        writer = writer_of(record)
        if writer is not None:
            judged.append(_judge(record.key, before, after, plans, writer))
        rows[record.key] = after
    return judged


def _judge(key, before, after, plans, writer):
    address = Address.of(key)
    plan = plans.get(_plan_of(address.part, after or before))
    change = change_of(plan, address.part, before, after, writer)
    assert is_legal(*change), f"{key.decode()}: {change} from {before} to {after}"
    repeated = change[:3] == Change("stage", "RUNNING", "RUNNING", higher=False)[:3]
    if before is not None and after is not None and not repeated:
        assert head(after).order > head(before).order, f"{key.decode()} fell: {before} to {after}"
    return change


def _plan_of(part, data):
    return getattr(decode(part, data), "plan", "") if data is not None else ""


async def _plans(log, naming):
    """Every plan there was."""
    return {
        record.key.removeprefix(b"plan/").decode(): Plan.decode(record.value)
        for record in await read_all(log, naming.control)
        if record.key.startswith(b"plan/") and record.value and record.value.startswith(b'{"')
    }


async def read_all(log, topic):
    """All that stands in a topic, in the order of its partitions."""
    spec = (await log.topics())[topic]
    places = [TopicPartition(topic, p) for p in range(spec.partitions)]
    marks = await log.watermarks(places)
    reader = log.reader()
    reader.assign({place: marks[place].low for place in places})
    found = []
    while any(reader.position(place) < marks[place].high for place in places):
        found += await reader.poll(10_000, 0)
    await reader.close()
    return found
