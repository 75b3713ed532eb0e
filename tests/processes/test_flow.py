"""What a pipeline does with two worker processes and the keeper in a third."""

from __future__ import annotations

import signal
from typing import Any

import pytest

pytestmark = pytest.mark.processes

LINE = """
stages:
  - {name: one, type: work}
  - {name: two, type: work}
  - {name: three, type: brief}
"""


async def test_every_job_passes_every_stage_once(site: Any) -> None:
    """G1: whoever runs what, each stage of each job runs once and each job ends once."""
    site.pipeline("p", LINE)
    site.start_all()
    await site.settled(2)
    jobs = [f"j{n}" for n in range(100)]
    await site.submit(*jobs, data={"n": 1})
    views = await site.until_ended(jobs)

    assert {view.status for view in views.values()} == {"succeeded"}
    assert sorted(site.side_effects("one")) == sorted(jobs)
    assert sorted(site.side_effects("three")) == sorted(jobs)
    assert sorted(await site.done_events()) == sorted(jobs)
    assert {view.stages["one"].worker for view in views.values()} == {"agents-1", "agents-2"}


async def test_a_gate_holds_until_its_fact_and_says_how_long(site: Any) -> None:
    """Seed row M25: attempts, passed_at and elapsed_seconds stand in the ledger."""
    site.pipeline(
        "p",
        "gates: {review: {after: one, until: facts.reviewed}}\n"
        "stages:\n  - {name: one, type: work}\n  - {name: two, type: work}\n",
    )
    site.start_all()
    await site.submit("a", "b")
    waiting = await site.until_job("a", "waiting")
    assert waiting.waiting_for.gate == "review"
    await site.until_job("b", "waiting")
    await site.say("a", "fact", facts={"reviewed": True})

    done = await site.until_job("a", "succeeded")
    assert done.metadata["gate.review.attempts"] == 2
    assert done.metadata["gate.review.elapsed_seconds"] > 0
    assert (await site.job("b")).status == "waiting"
    assert site.side_effects("two") == ["a"]


async def test_a_document_of_the_source_form_waits_on_metadata_and_resumes(site: Any) -> None:
    """`fact set JOB pdf_ir_ready=true` releases a gate on `metadata.pdf_ir_ready` (000)."""
    site.pipeline(
        "p",
        "gates:\n  - {name: ir, condition: {field: metadata.pdf_ir_ready, equals: true},"
        " resume_stage: two}\n"
        "stages:\n"
        "  - {name: one, type: work}\n"
        "  - {name: wait, type: gate, depends_on: [one], config: {gate: ir}}\n"
        "  - {name: two, type: work, depends_on: [wait]}\n",
    )
    site.start_all()
    await site.submit("a")
    await site.until_job("a", "waiting")
    await site.say("a", "fact", facts={"pdf_ir_ready": True})
    await site.until_job("a", "succeeded")


async def test_a_deadline_fires_with_no_traffic_at_all(site: Any) -> None:
    """G10: within two seconds of the deadline, though nothing else happens."""
    site.pipeline(
        "p",
        "gates: {review: {after: one, until: facts.never, timeout: 2s, on_timeout: skip}}\n"
        "stages:\n  - {name: one, type: work}\n  - {name: two, type: work}\n",
    )
    site.start_all()
    await site.submit("a")
    view = await site.until_job("a", "succeeded")

    gate = view.stages["review"]
    assert gate.status == "skipped"
    assert 2_000 <= gate.completed_at - gate.created_at <= 4_000


async def test_a_shared_fact_releases_every_job_once_across_a_killed_keeper(site: Any) -> None:
    """G9: exactly once, though the keeper dies in the middle of the storm."""
    site.pipeline(
        "p",
        "gates: {go: {after: one, until: facts.open}}\n"
        "stages:\n  - {name: one, type: work}\n  - {name: two, type: work}\n",
    )
    site.start_all()
    jobs = [f"j{n}" for n in range(300)]
    await site.submit(*jobs)

    async def all_wait() -> bool:
        return len(await site.client.waiting("p")) == 300

    await site.until(all_wait)
    await site.say(None, "fact", everywhere=True, facts={"open": True})

    async def some_ran() -> bool:
        return len(site.side_effects("two")) > 0

    await site.until(some_ran)
    site.kill("keeper")
    site.start("keeper", "--keeper")
    await site.until_ended(jobs)
    assert sorted(site.side_effects("two")) == sorted(jobs)
    assert sorted(await site.done_events()) == sorted(jobs)


async def test_a_join_waits_for_all_its_ways_and_sees_all_their_outputs(site: Any) -> None:
    """The parts run in different processes; the join still fires once."""
    site.pipeline(
        "p",
        "stages:\n"
        "  - {name: left, type: work}\n"
        "  - {name: right, type: brief}\n"
        "  - {name: both, type: work, depends_on: [left, right]}\n",
    )
    site.start_all()
    jobs = [f"j{n}" for n in range(40)]
    await site.submit(*jobs, data=7)
    views = await site.until_ended(jobs)

    assert sorted(site.side_effects("both")) == sorted(jobs)
    given = views["j3"].stages["both"].outputs["given"]
    assert given == {"left": {"from": "left", "given": 7}, "right": "ok"}


async def test_a_failed_stage_fails_the_job_and_stops_its_siblings(site: Any) -> None:
    """Running siblings are cancelled and awaited; finished outputs stay readable."""
    site.pipeline(
        "p",
        "stages:\n"
        "  - {name: first, type: work}\n"
        "  - {name: bad, type: broken-once, depends_on: [first]}\n"
        "  - {name: long, type: slow, depends_on: [first]}\n"
        "  - {name: after, type: work, depends_on: [long]}\n",
    )
    site.start_all()
    await site.submit("a")
    view = await site.until_job("a", "failed")

    assert view.stages["bad"].error.message == "ValueError: not mended"
    assert view.stages["long"].status == "cancelled"
    assert view.stages["first"].outputs == {"from": "first", "given": None}
    assert view.duration_ms < 12_000
    assert site.side_effects("after") == []


async def test_cancel_stops_running_work_and_starts_nothing_new(site: Any) -> None:
    """G18: acknowledged within 10 s, in coroutines and in threads."""
    site.pipeline(
        "p",
        "stages:\n"
        "  - {name: c, type: slow}\n"
        "  - {name: t, type: slow-thread, depends_on: []}\n"
        "  - {name: after, type: work, depends_on: [c, t]}\n",
    )
    site.start_all()
    await site.submit("a")
    await site.until_job("a", lambda v: {s.status for s in v.stages.values()} == {"running"})
    await site.say("a", "cancel", reason="wrong file")
    view = await site.until_job("a", "cancelled", timeout=12)

    assert view.reason == "wrong file (by test)"
    assert {view.stages["c"].status, view.stages["t"].status} == {"cancelled"}
    assert site.side_effects("after") == []


async def test_a_long_retry_waits_in_a_row_and_survives_the_death_of_all(site: Any) -> None:
    """Durable retries: nobody remembers them but the ledger."""
    site.pipeline(
        "p",
        "policies: {patient: {max_attempts: 3, backoff: {strategy: linear, initial: 4,"
        " maximum: 8, jitter: false}}}\n"
        "stages:\n  - {name: one, type: flaky, policy: patient}\n",
    )
    site.start_all()
    await site.submit("a")
    view = await site.until_job("a", "retrying")
    assert view.waiting_for.kind == "retry"
    for name in ("agents-1", "agents-2", "keeper"):
        site.kill(name)
    site.start_all()
    view = await site.until_job("a", "succeeded")

    assert view.stages["one"].attempts == 2
    assert view.stages["one"].outputs == {"attempt": 2}
    assert [each.status for each in view.stages["one"].tries] == ["RETRYING", "SUCCESS"]


async def test_a_retry_verdict_spends_no_attempt(site: Any) -> None:
    """Oban's snooze: not now is not a failure."""
    site.pipeline("p", "stages:\n  - {name: one, type: not-yet}\n")
    site.start_all()
    await site.submit("a")
    await site.until_job("a", "retrying")
    (site.folder / "now").touch()
    view = await site.until_job("a", "succeeded")

    assert view.stages["one"].outputs == {"attempt": 1}
    assert len(site.side_effects("one")) == 2


async def test_a_failed_job_is_retried_from_where_it_failed(site: Any) -> None:
    """Only the failed step runs again."""
    site.pipeline("p", "stages:\n  - {name: one, type: work}\n  - {name: two, type: broken-once}\n")
    site.start_all()
    await site.submit("a")
    await site.until_job("a", "failed")
    (site.folder / "mended").touch()
    await site.say("a", "retry")
    view = await site.until_job("a", "succeeded")

    assert view.epoch == 2
    assert site.side_effects("one") == ["a"]
    assert site.side_effects("two") == ["a", "a"]


async def test_a_paused_stage_keeps_its_jobs_until_it_is_resumed(site: Any) -> None:
    """A durable fact: every worker heeds it, also one started later."""
    site.pipeline("p", LINE)
    site.start_all()
    await site.submit("first")
    await site.until_job("first", "succeeded")
    await site.say(None, "pause", stage="two")

    async def is_paused() -> bool:
        return "two" in (await site.info()).pauses

    await site.until(is_paused)
    site.stop("agents-1")
    site.start("agents-3", "--agents")
    await site.submit("a")
    await site.until_job("a", lambda v: v.stages["one"].status == "succeeded")
    await site.clock.sleep(1.0)
    assert (await site.job("a")).stages["two"].status == "queued"
    await site.say(None, "resume", stage="two")
    await site.until_job("a", "succeeded")


async def test_a_signal_may_overtake_its_job(site: Any) -> None:
    """K9: a fact that comes before the submission is kept for it."""
    site.pipeline(
        "p",
        "gates: {review: {after: one, until: facts.reviewed}}\n"
        "stages:\n  - {name: one, type: work}\n  - {name: two, type: work}\n",
    )
    site.start_all()
    await site.say("a", "fact", facts={"reviewed": True})
    await site.clock.sleep(0.5)
    await site.submit("a")
    await site.until_job("a", "succeeded")


async def test_a_deadline_cancels_a_job_also_while_it_waits(site: Any) -> None:
    """A pipeline or a submit may give the job a `deadline`."""
    site.pipeline(
        "p",
        "deadline: 2s\ngates: {never: {after: one, until: facts.never}}\n"
        "stages:\n  - {name: one, type: work}\n  - {name: two, type: work}\n",
    )
    site.start_all()
    await site.submit("a")
    view = await site.until_job("a", "cancelled")
    assert view.reason == "deadline passed"


async def test_a_stage_with_the_ledger_among_its_dependencies_sees_it(site: Any) -> None:
    """`@ledger` (001): the view as it stands when the stage is entered."""
    site.pipeline(
        "p",
        "stages:\n"
        "  - {name: one, type: work}\n"
        '  - {name: look, type: ledgered, depends_on: [one, "@ledger"]}\n',
    )
    site.start_all()
    await site.submit("a")
    view = await site.until_job("a", "succeeded")
    assert view.stages["look"].outputs == {"saw": ["one"], "fact": None}


async def test_pools_share_a_job_without_sharing_a_group(site: Any) -> None:
    """A stage runs in the pool that the plan gives it."""
    site.pipeline(
        "p",
        "stages:\n  - {name: one, type: work}\n  - {name: two, type: work, pool: gpu}\n",
    )
    site.start("plain", "--agents", "--pool", "default")
    site.start("gpu", "--agents", "--pool", "gpu")
    site.start("keeper", "--keeper")
    await site.submit("a")
    view = await site.until_job("a", "succeeded")
    assert view.stages["one"].worker == "plain"
    assert view.stages["two"].worker == "gpu"


async def test_a_job_ends_on_the_plan_it_began_with(site: Any) -> None:
    """G16: two plans of a pipeline side by side in one worker."""
    gate = "gates: {go: {after: one, until: facts.go}}\n"
    site.pipeline("p", gate + "stages:\n  - {name: one, type: work}\n  - {name: two, type: work}\n")
    site.start_all()
    await site.submit("old")
    await site.until_job("old", "waiting")
    site.pipeline(
        "p",
        "version: 2\n"
        + gate
        + "stages:\n  - {name: one, type: work}\n  - {name: three, type: brief}\n",
    )
    site.start("agents-3", "--agents")

    async def changed() -> bool:
        return (await site.info()).plan.version == "2"

    await site.until(changed)
    await site.submit("new")
    await site.until_job("new", "waiting")
    for job in ("old", "new"):
        await site.say(job, "fact", facts={"go": True})
    old, new = await site.until_job("old", "succeeded"), await site.until_job("new", "succeeded")
    assert set(old.stages) == {"one", "go", "two"}
    assert set(new.stages) == {"one", "go", "three"}


async def test_sigterm_drains_and_leaves_at_once(site: Any) -> None:
    """Reliability row 2: exit 0 in under 10 s, what ran is finished, the others go on."""
    site.pipeline("p", "stages:\n  - {name: one, type: slow}\n  - {name: two, type: work}\n")
    site.start_all()
    await site.settled(2)
    await site.submit("a", seconds=3)
    view = await site.until_job("a", "running")
    who = view.stages["one"].worker
    assert site.stop(who) == 0
    view = await site.until_job("a", "succeeded", timeout=15)
    assert site.side_effects("one") == ["a"]
    assert view.stages["one"].worker == who


async def test_a_stopped_process_changes_nothing_when_it_wakes(site: Any) -> None:
    """G2, row 3: a zombie's results are refused; every job ends once."""
    site.pipeline("p", "stages:\n  - {name: one, type: brief}\n  - {name: two, type: work}\n")
    site.start_all()
    jobs = [f"j{n}" for n in range(400)]
    await site.submit(*jobs)

    async def some_ran() -> bool:
        return len(site.side_effects("two")) > 20

    await site.until(some_ran)
    await site.freeze("agents-1")
    await site.until_ended(jobs)
    site.signal("agents-1", signal.SIGCONT)
    await site.submit("late")
    await site.until_job("late", "succeeded")
    await site.clock.sleep(1.0)
    assert sorted(await site.done_events()) == sorted([*jobs, "late"])
