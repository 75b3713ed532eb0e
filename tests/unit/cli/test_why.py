"""Golden answers of `why`: what a person reads when a job does not move."""

import msgspec

from streams.cli.why import as_object, as_text, reason_of
from streams.client import Submission
from streams.engine.payload import Payload
from streams.engine.rows import Attempt, Parked, Row, Wait
from tests.unit.cli.scene import HOUR, PLAN, SECOND, START


async def answer(scene, job="doc-2", *, later=2 * HOUR, alive=True):
    """The text at a moment after the scene's start."""
    if alive:
        for group in ("keeper", "pool-default"):
            consumer = scene.log.consumer(f"default.demo.{group}", "w1")
            await consumer.subscribe([scene.naming.hold])
            await consumer.poll(1, 0)
    found = await scene.client.find(job)
    return as_text(reason_of(found, START + later))


async def test_a_job_at_a_gate_is_told_with_the_clause_its_values_and_the_command(scene):
    """readme-first-screen 4: how long, for what, which values, who, until when, the command."""
    await scene.waiting_at_gate("doc-2")

    assert await answer(scene) == (
        "doc-2 (demo) waits at gate review, for 1h 59m\n"
        "\n"
        "  until      facts.reviewed   does not hold yet\n"
        "  now        `facts.reviewed` is missing\n"
        "  since      2027-01-15 08:00:02Z (1h 59m)\n"
        "  times out  2027-01-18 08:00:02Z (in 2d 22h): then the job fails\n"
        "  who        anyone who can write to this log; name and reason are kept\n"
        "\n"
        "  let it go on:\n"
        "    streams gate release review doc-2"
    )


async def test_the_values_a_clause_reads_are_shown(scene):
    """A fact that is there and false is another case than one that was never set."""
    await scene.waiting_at_gate("doc-2")
    await scene.control("fact/reviewed", {"value": False, "at": START, "by": "ann"})

    assert "  now        facts.reviewed = false" in (await answer(scene)).splitlines()


async def test_a_failed_job_is_told_with_stage_error_attempts_and_the_retry(scene):
    await scene.failed("doc-2")

    assert await answer(scene) == (
        "doc-2 (demo) failed in stage summarise 1h 59m ago\n"
        "\n"
        "  error     S001: KeyError: 'text'\n"
        "  when      2027-01-15 08:00:05Z\n"
        "  attempts  3\n"
        "  worker    w1\n"
        "  log       reading document\n"
        "            no text in it\n"
        "\n"
        "  run it again from there:\n"
        "    streams retry doc-2"
    )


async def test_a_job_that_nobody_took_up_says_that_no_worker_is_alive(scene):
    """Queued for ever with no word about it is the worst of answers."""
    await scene.client.submit(await scene.client.pipeline("demo"), Submission(id="doc-2"))

    assert await answer(scene, alive=False, later=60 * SECOND) == (
        "doc-2 (demo) is queued: no worker has taken it up yet\n"
        "\n"
        "  since    2027-01-15 08:00:00Z (1m)\n"
        "  workers  none is alive: nothing moves until one starts\n"
        "\n"
        "  start one:\n"
        "    streams dev   (or: streams worker FILE)"
    )


async def test_a_paused_stage_is_told_with_who_paused_it_and_how_it_goes_on(scene):
    await scene.job("doc-2")
    await scene.control("pause/fetch", {"at": START, "by": "ann", "reason": "disk full"})

    assert await answer(scene, later=60 * SECOND) == (
        "doc-2 (demo) is queued for stage fetch\n"
        "\n"
        "  since   2027-01-15 08:00:00Z (1m)\n"
        "  paused  since 2027-01-15 08:00:00Z by ann: disk full\n"
        "\n"
        "  resume:\n"
        "    streams resume demo/fetch"
    )


async def test_a_running_stage_is_told_with_its_worker(scene):
    await scene.job("doc-2")
    running = Row(
        "RUNNING", phase=1, plan=PLAN.digest, root="doc-2", worker="w1", at=START + SECOND
    )
    await scene.row("doc-2", "fetch", running)

    assert await answer(scene, later=31 * SECOND) == (
        "doc-2 (demo) is running stage fetch\n\n  since   2027-01-15 08:00:01Z (30s)\n  worker  w1"
    )


async def test_a_delayed_retry_is_told_with_its_error_and_when_it_is_due(scene):
    await scene.job("doc-2")
    tried = Attempt(1, START, START, START + SECOND, "RETRYING", "Timeout: no answer")
    row = Row(
        "RETRYING", plan=PLAN.digest, root="doc-2", phase=1, times=(tried,), at=START + SECOND
    )
    await scene.row("doc-2", "fetch", row)
    event = Parked(payload=msgspec.Raw(msgspec.json.encode(Payload())))
    wait = Wait("retry", START + SECOND, due=START + 61 * SECOND, event=event)
    parked = Row("WAITING", turn=2, phase=0, plan=PLAN.digest, root="doc-2", wait=wait)
    await scene.row("doc-2", "fetch~", parked)

    assert await answer(scene, later=31 * SECOND) == (
        "doc-2 (demo) will try stage fetch again in 30s\n"
        "\n"
        "  last error  Timeout: no answer\n"
        "  due         2027-01-15 08:01:01Z (in 30s)\n"
        "  attempts    1"
    )


async def test_a_cancelled_job_says_who_and_where_it_stood(scene):
    await scene.job(
        "doc-2", s="CANCELLED", ph=2, completed=START + 9 * SECOND, reason="not needed (by ann)"
    )
    await scene.done("doc-2", "fetch", "summarise")

    assert await answer(scene, later=69 * SECOND) == (
        "doc-2 (demo) was cancelled 1m ago, after 9.0s\n"
        "\n"
        "  reason    not needed (by ann)\n"
        "  when      2027-01-15 08:00:09Z\n"
        "  stood at  fetch\n"
        "\n"
        "  run it again:\n"
        "    streams retry doc-2"
    )


async def test_the_answer_for_programs_has_the_wait_and_the_exact_commands(scene):
    await scene.waiting_at_gate("doc-2")

    found = as_object(await scene.client.find("doc-2"), START + HOUR)

    (wait,) = found["waits"]
    assert (wait["kind"], wait["gate"], wait["on_timeout"]) == ("gate", "review", "fail")
    assert wait["deadline"] - wait["since"] == 3 * 24 * HOUR
    assert [clause["text"] for clause in wait["clauses"]] == ["facts.reviewed"]
    assert found["commands"][0] == "streams gate release review doc-2"
    assert found["live_workers"] == 0
