"""The guard at the end of every test with a rig: it judges what was written, and it can refuse."""

import msgspec
import pytest

from streams.broker.port import Outgoing, Transaction
from streams.engine.rows import Address, Row, encode
from streams.outcome import Retry
from tests.unit.runtime.rig import NAMING, Rig, running
from tests.unit.runtime.row_guard import judge_rows

ONE = "stages:\n  - {name: one, type: t}\n"
AGENT, KEEPER = f"{NAMING.pool_group('default')}.z", f"{NAMING.keeper_group}.z"


async def test_every_row_of_a_run_is_judged_with_its_writer(tmp_path):
    """A guard that sees nothing would always be content."""
    answers = [Retry(5), "ok"]
    async with running(Rig(tmp_path, ONE, stages={"t": lambda ctx: answers.pop(0)})) as rig:
        await rig.submit()
        await rig.view_when()
        await rig.pass_time(1)
        judged = await judge_rows(rig.log.inner, NAMING)

    assert sorted((c.row, c.after or "none", c.writer) for c in judged) == [
        ("delayed", "WAITING", "keeper"),
        ("delayed", "none", "keeper"),
        ("input", "KEPT", "keeper"),
        ("job", "RUNNING", "keeper"),
        ("job", "SUCCESS", "keeper"),
        ("stage", "RETRYING", "agent"),
        ("stage", "SUCCESS", "agent"),
    ]


@pytest.mark.parametrize(
    ("writer", "part", "rows", "words"),
    [
        (KEEPER, "one", [Row("SUCCESS")], "writer='keeper'"),
        (AGENT, "one~", [Row("WAITING", phase=0)], "writer='agent'"),
        (AGENT, "one", [Row("SUCCESS"), Row("FAILED", n=1)], "before='SUCCESS', after='FAILED'"),
        (AGENT, "one", [Row("RUNNING", turn=2, phase=1), Row("SUCCESS", turn=1)], "fell"),
        (AGENT, "one", [Row("WAITING", phase=0)], "after='WAITING'"),
        (AGENT, "one", [Row("SUCCESS"), None], "after=None"),
    ],
    ids=["writer", "companion", "end", "order", "status", "purge"],
)
async def test_a_row_that_the_table_lacks_fails_the_test(tmp_path, writer, part, rows, words):
    """Each rule of the table, broken once by somebody who may write."""
    rig = Rig(tmp_path, ONE, stages={"t": lambda ctx: "ok"})
    with pytest.raises(AssertionError, match=words):
        await commit_by(rig, writer, Address("j", part).key, rows)


async def commit_by(rig, writer, key, rows):
    async with rig:
        producer = await rig.log.producer(writer)
        values = [data(row, rig.plans[0].digest) for row in rows]
        records = [Outgoing(NAMING.ledger, key, value, (), 0) for value in values]
        await producer.commit(Transaction(records))


def data(row, plan):
    return encode(msgspec.structs.replace(row, plan=plan)) if row is not None else None


async def test_what_a_test_forges_itself_is_not_judged(tmp_path):
    """Records without a signature are where others start from."""
    async with Rig(tmp_path, ONE, stages={"t": lambda ctx: "ok"}) as rig:
        row = encode(Row("WAITING", phase=0, plan=rig.plans[0].digest))
        await rig.log.publish([Outgoing(NAMING.ledger, b"j|one", row, (), 0)])
        assert await judge_rows(rig.log.inner, NAMING) == []
