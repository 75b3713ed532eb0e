"""Topics of others are read exactly once, whatever the log does, and odd records stop nobody."""

import contextlib
import http.server
import json
import threading

import pytest

from streams.broker.port import Committed, Outgoing, TopicPartition, TopicSpec
from streams.clock import ManualClock, SystemClock
from streams.engine.rows import decode_input
from streams.errors import TopicError, UserError
from streams.runtime.source_topics import require_sources, source_groups
from streams.testing.faults import Fault
from tests.unit.runtime.rig import NAMING, Rig

TOPIC = "orders"
STAGES = "\nstages:\n  - {name: one, type: t}\n"
PRODUCER = "t.p.source.w"


def ok(ctx):
    return ctx.stage_name


def reads(**more):
    return f"source: {json.dumps({'topic': TOPIC, 'format': 'json', **more})}{STAGES}"


@contextlib.asynccontextmanager
async def reading(folder, *topologies, partitions=2, before=(), clock=None):
    """A rig whose pipeline reads a topic of others, which holds `before` already."""
    topologies = topologies or (reads(id="${{ data.id }}"),)
    async with Rig(folder, *topologies, stages={"t": ok}, clock=clock) as rig:
        await rig.log.create_topics([TopicSpec(TOPIC, partitions)])
        await write(rig, *before)
        yield rig


async def write(rig, *values, key=b"k", partition=0, headers=()):
    """Each as one record; what is no bytes as JSON."""
    raws = [v if isinstance(v, bytes | None) else json.dumps(v).encode() for v in values]
    for raw in raws:
        await rig.log.publish([Outgoing(TOPIC, key, raw, tuple(headers), partition)])


async def all_done(rig, *jobs, seconds=30):
    async def there():
        return sorted(await rig.done()) == sorted(jobs)

    try:
        await rig.until(there, seconds=seconds)
    except AssertionError:
        raise AssertionError(f"done are {await rig.done()}") from None


async def position(rig, partition=0):
    at = (await rig.log.positions(NAMING.source_group)).get(TopicPartition(TOPIC, partition))
    return None if at is None else at.offset


async def told(rig, worker, reason):
    """The detail of a worker's standing, once it gives that reason."""
    return await rig.until(
        lambda: next((r.detail for r in worker.standing() if r.reason == reason), None)
    )


# -- exactly once ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [Fault.ABORTED, Fault.UNKNOWN, Fault.UNKNOWN_COMMITTED, Fault.FENCED]
)
@pytest.mark.parametrize("number", [1, 2, 3])
async def test_each_record_is_submitted_once_whatever_becomes_of_a_commit(tmp_path, fault, number):
    """The position goes with what the record caused, in one transaction."""
    async with reading(tmp_path, before=[{"id": f"a{n}"} for n in range(3)]) as rig:
        rig.log.choose = lambda who, n, _: fault if (who, n) == (PRODUCER, number) else None
        rig.start(rig.worker())
        await all_done(rig, "a0", "a1", "a2")
        await write(rig, {"id": "b0"}, {"id": "b1"}, partition=1)
        await all_done(rig, "a0", "a1", "a2", "b0", "b1")

        assert len(await rig.records(NAMING.intake)) == 5


async def test_a_record_that_is_read_again_is_the_same_job(tmp_path):
    """Somebody sets the group back: the coordinator knows the jobs."""
    async with reading(tmp_path, reads(), before=[{"n": 1}, {"n": 2}]) as rig:
        worker = rig.worker()
        task = rig.start(worker)
        await rig.until(lambda: rig_done(rig, 2))
        first = sorted(await rig.done())
        worker.leave()
        await rig.until(task.done)
        await rig.log.set_positions(NAMING.source_group, {TopicPartition(TOPIC, 0): Committed(0)})
        rig.start(rig.worker())
        await rig.until(lambda: enough(rig, 4))
        await rig.pass_time(3)

        assert sorted(await rig.done()) == first
        assert await rig.dead() == []


async def rig_done(rig, count):
    return len(await rig.done()) >= count


async def enough(rig, count):
    return len(await rig.records(NAMING.intake)) >= count


async def test_two_members_share_the_partitions_and_one_takes_over(tmp_path):
    """Wherever the keepers are."""
    async with reading(tmp_path, partitions=4) as rig:
        one, two = rig.worker("w"), rig.worker("v")
        rig.start(one)
        rig.start(two)
        await rig.until(lambda: one.source and two.source and one.source.frontiers
                        and two.source.frontiers)  # fmt: skip
        for partition in range(4):
            await write(rig, {"id": f"p{partition}"}, partition=partition)
        await all_done(rig, "p0", "p1", "p2", "p3")
        two.leave()
        await rig.until(lambda: len(one.source.frontiers) == 4)
        for partition in range(4):
            await write(rig, {"id": f"q{partition}"}, partition=partition)
        await all_done(rig, *(f"{x}{n}" for x in "pq" for n in range(4)))


# -- where to begin -------------------------------------------------------------------------


async def test_the_position_to_begin_at_is_committed_before_anything_is_read(tmp_path):
    """R5: later nobody has to guess."""
    async with reading(tmp_path, reads(start="latest"), before=[{"n": 1}, {"n": 2}]) as rig:
        worker = rig.worker()
        rig.start(worker)
        await rig.until(lambda: worker.source and len(worker.source.frontiers) == 2)

        assert (await position(rig, 0), await position(rig, 1)) == (2, 0)
        assert await rig.done() == []


@pytest.mark.parametrize(
    ("start", "jobs"),
    [("earliest", ["1", "2", "3"]), ("latest", ["3"]), ("2026-01-01T00:00:30Z", ["2", "3"])],
)
async def test_the_beginning_is_as_declared(tmp_path, start, jobs):
    """Everything, nothing of before, or since a time."""
    clock = ManualClock(1_767_225_600_000)  # 2026-01-01T00:00:00Z
    topology = reads(id="${{ data.id }}", start=start)
    async with reading(tmp_path, topology, partitions=1, clock=clock) as rig:
        await write(rig, {"id": 1})
        await rig.during(rig.clock.sleep(60))
        await write(rig, {"id": 2})
        worker = rig.worker()
        rig.start(worker)
        await rig.until(lambda: worker.source and worker.source.frontiers)
        await write(rig, {"id": 3})

        await all_done(rig, *jobs)


async def test_what_came_while_nobody_read_is_read_though_the_start_is_the_end(tmp_path):
    """`start` counts once."""
    async with reading(tmp_path, reads(id="${{ data.id }}", start="latest")) as rig:
        worker = rig.worker()
        task = rig.start(worker)
        await rig.until(lambda: worker.source and len(worker.source.frontiers) == 2)
        worker.leave()
        await rig.until(task.done)
        await write(rig, {"id": "meanwhile"})
        rig.start(rig.worker())

        await all_done(rig, "meanwhile")


# -- what halts a partition, and no other ---------------------------------------------------


async def test_a_position_that_was_lost_halts_its_partition(tmp_path):
    """Row 26: neither earliest nor latest; the other partition goes on."""
    async with reading(tmp_path, before=[{"id": "a"}]) as rig:
        worker = rig.worker()
        task = rig.start(worker)
        await all_done(rig, "a")
        worker.leave()
        await rig.until(task.done)
        await forget_positions(rig, 0)
        await write(rig, {"id": "b"})
        await write(rig, {"id": "c"}, partition=1)
        again = rig.worker()
        rig.start(again)
        await all_done(rig, "a", "c")

        assert await told(rig, again, "source-halted") == "orders/0: K091"
        error = again.source.halted[TopicPartition(TOPIC, 0)]
        assert "from 0 on; it holds 0 to 2" in error.message
        assert await position(rig, 0) is None


async def forget_positions(rig, partition):
    """As a tool does it, or `offsets.retention.minutes`."""
    store = rig.log.inner._store
    await store.write(
        lambda file: file.execute(
            "DELETE FROM positions WHERE grp = ? AND partition = ?",
            (NAMING.source_group, partition),
        )
    )


async def test_retention_past_the_position_halts_its_partition_with_both_numbers(tmp_path):
    """Row 26: what lies between was never read, and nobody passes over it in silence."""
    async with reading(tmp_path, before=[{"id": "a"}]) as rig:
        worker = rig.worker()
        task = rig.start(worker)
        await all_done(rig, "a")
        worker.leave()
        await rig.until(task.done)
        await write(rig, {"id": "b"}, {"id": "c"}, {"id": "d"})
        await rig.log.trim({TopicPartition(TOPIC, 0): 3})
        await write(rig, {"id": "e"}, partition=1)
        again = rig.worker()
        rig.start(again)
        await all_done(rig, "a", "e")

        assert await told(rig, again, "source-halted") == "orders/0: K015"
        error = again.source.halted[TopicPartition(TOPIC, 0)]
        assert "stands at 1 of orders/0, which has 3 to 4" in error.message
        await write(rig, {"id": "f"}, partition=1)
        await all_done(rig, "a", "e", "f")
        assert await position(rig, 0) == 1


async def test_the_policy_halt_stands_at_the_record_until_it_is_mended(tmp_path):
    """`on_error: halt`; a new plan looks at it again."""
    async with reading(
        tmp_path,
        reads(id="${{ data.id }}", on_error="halt"),
        before=[{"id": "a"}, {"no": 1}, {"id": "b"}],
    ) as rig:
        worker = rig.worker()
        rig.start(worker)
        await write(rig, {"id": "c"}, partition=1)
        await all_done(rig, "a", "c")
        assert await told(rig, worker, "source-halted") == "orders/0: K092"
        assert await position(rig, 0) == 1
        plan = rig.compiled("version: 2\n" + reads(id="${{ data.id }}", on_error="dead"))
        rig.plans.append(plan)
        await rig.apply(plan)
        await all_done(rig, "a", "b", "c")

        assert await rig.dead() == ["V064"]
        await rig.until(lambda: not worker.source.halted)


# -- odd records ----------------------------------------------------------------------------


async def test_a_record_that_cannot_be_read_is_a_dead_letter_with_all_of_it(tmp_path):
    """KT-5: key, value and headers as they came, and where it stood; the next one is read."""
    async with reading(tmp_path, partitions=3) as rig:
        await write(rig, b"{broken", key=None, partition=2, headers=[("h", b"\xff"), ("n", None)])
        await write(rig, {"id": "good"}, partition=2)
        rig.start(rig.worker())
        await all_done(rig, "good")

        (letter,) = await rig.records(NAMING.dead)
        assert (letter.key, letter.value) == (None, b"{broken")
        assert letter.headers[:2] == (("h", b"\xff"), ("n", None))
        cause = dict(letter.headers)
        assert cause["streams-dlq-topic"] == b"orders"
        assert cause["streams-dlq-partition"] == b"2"
        assert cause["streams-dlq-offset"] == b"0"
        assert cause["streams-dlq-reason"] == b"V013"


async def test_the_policy_skip_passes_over_it(tmp_path):
    """Declared, and said in the log."""
    async with reading(
        tmp_path, reads(id="${{ data.id }}", on_error="skip"), before=[b"{", {"id": "good"}]
    ) as rig:
        rig.start(rig.worker())
        await all_done(rig, "good")

        assert await rig.dead() == []
        assert await position(rig) == 2


async def test_a_known_id_with_another_body_is_a_conflict(tmp_path):
    """E12: `id-conflict`, by the coordinator."""
    async with reading(tmp_path, before=[{"id": "a"}, {"id": "a"}, {"id": "a", "n": 2}]) as rig:
        rig.start(rig.worker())
        await rig.until(lambda: dead_count(rig, 1))
        await all_done(rig, "a")

        assert await rig.dead() == ["V040"]


async def dead_count(rig, count):
    return len(await rig.dead()) >= count


async def test_a_large_record_is_put_away(tmp_path):
    """48 KiB travel with events; the rest lies in the blob store, under the job."""
    async with reading(
        tmp_path, before=[{"id": "a", "text": "x" * 200_000}], clock=SystemClock()
    ) as rig:
        rig.start(rig.worker())
        await all_done(rig, "a")

        (submitted,) = await rig.records(NAMING.intake)
        assert len(submitted.value) < 1_000
        row = decode_input((await rig.rows("a"))["@input"])
        assert b"/t/p/a/" in bytes(row.data)


async def test_declared_parameters_are_read_from_a_large_record_too(tmp_path):
    """As from a small one."""
    topology = "params: {size: integer}\n" + reads(id="${{ data.id }}")
    value = {"id": "a", "size": 3, "text": "x" * 200_000}
    async with reading(tmp_path, topology, before=[value], clock=SystemClock()) as rig:
        rig.start(rig.worker())
        await all_done(rig, "a")

        assert decode_input((await rig.rows("a"))["@input"]).params == {"size": 3}


async def test_a_record_too_large_for_a_dead_letter_becomes_a_pointer(tmp_path):
    """G11: size and checksum, and where the original stands."""
    async with reading(tmp_path, before=[b"\0" * 1_500_000, {"id": "a"}]) as rig:
        rig.start(rig.worker())
        await all_done(rig, "a")

        (letter,) = await rig.records(NAMING.dead)
        cause = dict(letter.headers)
        assert letter.value is None
        assert cause["streams-dlq-omitted"] == b"value"
        assert cause["streams-dlq-size"] == b"1500000"
        assert cause["streams-dlq-offset"] == b"0"


# -- a registry that is away ----------------------------------------------------------------


class _Registry(http.server.BaseHTTPRequestHandler):
    away = True

    def do_GET(self):
        self.send_response(503 if _Registry.away else 200)
        self.end_headers()
        self.wfile.write(json.dumps({"schema": '"string"'}).encode())

    def log_message(self, *_):
        pass


async def test_a_registry_that_is_away_costs_time_and_nothing_else(tmp_path):
    """Not the record's fault: no dead letter; the partition waits, and goes on."""
    _Registry.away = True
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Registry)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    topology = reads(format="avro", id="${{ data }}", registry=url)
    async with reading(
        tmp_path, topology, before=[b"\0\0\0\0\7\x04ab"], clock=SystemClock()
    ) as rig:
        worker = rig.worker()
        rig.start(worker)
        await rig.until(lambda: worker.source and worker.source._waiting)
        assert await rig.done() == []
        _Registry.away = False
        await all_done(rig, "ab")

        assert await rig.dead() == []
    server.shutdown()
    server.server_close()


# -- before it starts -----------------------------------------------------------------------


async def test_a_source_that_is_not_there_is_refused_with_the_nearest_name(tmp_path):
    """A misspelt topic would be silent for ever."""
    topology = reads().replace("orders", "ordes")
    async with reading(tmp_path, topology) as rig:
        with pytest.raises(TopicError) as caught:
            await require_sources(rig.log, NAMING, rig.plans[0], "")

    assert caught.value.code == "K090"
    assert caught.value.help == "Did you mean orders? Else create it."


@pytest.mark.parametrize(
    ("more", "code"),
    [({"topic": "t.p.done"}, "K090"), ({"format": "avro"}, "K093")],
    ids=["its own", "no schema"],
)
async def test_a_source_that_could_never_be_read_is_refused(tmp_path, more, code):
    """A loop, and Avro without a schema."""
    async with reading(tmp_path, reads(**more)) as rig:
        with pytest.raises((TopicError, UserError)) as caught:
            await require_sources(rig.log, NAMING, rig.plans[0], "")

    assert caught.value.code == code


async def test_an_embedded_log_gets_the_topic(tmp_path):
    """There is nobody else who could make it."""
    async with Rig(tmp_path, reads(), stages={"t": ok}) as rig:
        await require_sources(rig.log, NAMING, rig.plans[0], "", partitions=3)

        assert (await rig.log.topics())["orders"].partitions == 3


def test_the_group_of_the_sources_is_named_for_those_who_allow_things(tmp_path):
    """`plan` lists groups, topics, ACLs."""
    rig = Rig(tmp_path, reads(), STAGES, stages={"t": ok})

    assert source_groups(NAMING, rig.plans[0]) == {"t.p.source": ("orders",)}
    assert source_groups(NAMING, rig.plans[1]) == {}
