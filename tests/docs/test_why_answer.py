"""The README shows the answer of `why` for its own gate: exactly what the command prints."""

from streams.cli.why import as_text, reason_of
from streams.clock import ManualClock
from streams.engine.rows import Attempt, Parked, Row, Wait
from streams.topology.load import load_file
from tests.docs.pages import ROOT, blocks
from tests.unit.cli.scene import DAY, HOUR, MINUTE, START, Scene

JOB = "letter-7"


async def answer(folder) -> str:
    """A letter has waited for two hours at the gate of the README's own pipeline."""
    [topology] = [b for b in blocks(ROOT / "README.md") if b.language == "yaml"]
    (folder / "letters.yaml").write_text(topology.text, encoding="utf-8")
    plan = load_file(folder / "letters.yaml").plan
    scene = await Scene.open(folder / "log.db", ManualClock(START), plan)
    await scene.job(JOB)
    times = (Attempt(1, START, START, START, "SUCCESS"),)
    drafted = Row("SUCCESS", plan=plan.digest, root=JOB, taken=("review",), times=times, at=START)
    await scene.row(JOB, "draft", drafted)
    since = START + MINUTE
    wait = Wait("gate", since, due=since + 3 * DAY, event=Parked(), looks=1)
    held = Row("WAITING", phase=0, plan=plan.digest, root=JOB, at=since, wait=wait)
    await scene.row(JOB, "review", held)
    keeper = scene.log.consumer(scene.naming.keeper_group, "w1")
    await keeper.subscribe([scene.naming.intake, scene.naming.hold])
    try:
        return as_text(reason_of(await scene.client.find(JOB), since + 2 * HOUR))
    finally:
        await scene.log.close()


async def test_the_answer_of_why_in_the_readme_is_the_real_one(tmp_path):
    """How long, for what, with which values, when it ends, who may, and the command."""
    shown = [b.text for b in blocks(ROOT / "README.md") if b.language == "text"]

    assert shown == [await answer(tmp_path) + "\n"]
