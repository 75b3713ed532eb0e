"""Every built-in kind of stage and every way out of a gate, over three processes."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.processes


SHAPES = """
params: {name: {type: string, required: true}, n: {type: integer, default: 2}}
stages:
  - {name: up, type: upper}
  - {name: note, echo: "got ${{ stages.up.outputs }}"}
  - {name: hello, uses: text/greet@v1, with: {name: "${{ params.name }}"}}
  - {name: rest, echo: resting, sleep: 1}
  - {name: all, type: together}
  - {name: never, type: work, if: "${{ params.n > 2 }}"}
"""


async def test_classes_functions_and_batches_are_stages_alike(site: Any) -> None:
    """A class, a tagged function, several jobs in a call, and parts without code between them."""
    site.pipeline("p", SHAPES)
    site.start_all()
    await site.settled(2)
    jobs = [f"j{n}" for n in range(24)]
    await site.submit(*jobs, data="abc", name="ada")
    views = await site.until_ended(jobs)

    job = views["j7"]
    assert job.params == {"name": "ada", "n": 2}
    assert job.stages["up"].outputs == "ABC"
    assert job.stages["note"].status == "succeeded"
    assert job.stages["hello"].outputs == {"said": "hello ada!"}
    assert job.stages["rest"].duration_ms >= 1_000
    assert job.stages["never"].status == "skipped"
    assert job.status == "succeeded"
    assert max(v.stages["all"].outputs["with"] for v in views.values()) > 1
    assert sorted(site.side_effects("all")) == sorted(jobs)


async def test_a_job_of_which_everything_is_skipped_is_skipped(site: Any) -> None:
    """The one pure rule from rows to a job's status."""
    site.pipeline(
        "p",
        "stages:\n  - {name: one, type: work, if: 'params.go == true'}\n"
        "  - {name: two, echo: hi, if: 'params.go == true'}\n",
    )
    site.start_all()
    await site.submit("a", go=False)
    view = await site.until_job("a", "skipped")
    assert {stage.status for stage in view.stages.values()} == {"skipped"}


async def test_raise_and_cancel_end_the_job_from_inside(site: Any) -> None:
    """A fail verdict by YAML, a cancel verdict by code."""
    site.pipeline(
        "p", "stages:\n  - {name: one, type: work}\n  - {name: no, raise: 'not ${{ job.id }}'}\n"
    )
    site.pipeline("q", "stages:\n  - {name: one, type: give-up}\n  - {name: two, type: work}\n")
    site.start_all()
    await site.submit("a")
    await site.submit("b", pipeline="q")
    failed = await site.until_job("a", "failed")
    cancelled = await site.until_job("b", "cancelled", pipeline="q")

    assert failed.error.message == "not a"
    assert failed.error.code == "S002"
    assert cancelled.reason == "no use"
    assert site.side_effects("two") == []


async def test_route_takes_one_way_and_the_join_does_not_wait_for_the_other(site: Any) -> None:
    """A way not taken is dead, and dead ways hold nobody up."""
    site.pipeline(
        "p",
        "stages:\n"
        "  - {name: pick, type: choose}\n"
        "  - {name: left, type: work, depends_on: [pick]}\n"
        "  - {name: right, type: work, depends_on: [pick]}\n"
        "  - {name: both, type: brief, depends_on: [left, right]}\n",
    )
    site.start_all()
    await site.submit("a", way="left")
    view = await site.until_job("a", "succeeded")
    assert view.stages["right"].status == "skipped"
    assert site.side_effects("right") == []
    assert site.side_effects("both") == ["a"]


GATES = """
gates:
  stay: {until: facts.go, timeout: 1s, on_timeout: continue}
  leave: {until: facts.go, timeout: 1s, on_timeout: ask}
  hard: {condition: {mode: all, clauses: [{field: colour, operator: equals, value: red},
         {field: tries, operator: changed}, {field: note, operator: exists}]}}
stages:
  - {name: one, type: work}
  - {name: wait, type: gate, depends_on: [one], config: {gate: stay}}
  - {name: next, type: work, depends_on: [wait]}
  - {name: out, type: gate, depends_on: [one], config: {gate: leave}}
  - {name: normal, type: work, depends_on: [out]}
  - {name: ask, type: brief}
  - {name: many, type: gate, depends_on: [one], config: {gate: hard}}
"""


async def test_gates_end_by_every_way_out(site: Any) -> None:
    """continue, a stage of its own, and clauses that become true one after another."""
    site.pipeline("p", GATES)
    site.start_all()
    await site.submit("a")
    await site.until_job("a", lambda v: v.stages["one"].status == "succeeded")
    for facts in ({"colour": "red"}, {"tries": 1}, {"note": "x"}):
        await site.say("a", "fact", facts=facts)
    view = await site.until_job("a", "succeeded")

    assert view.stages["wait"].status == "succeeded"
    assert view.stages["wait"].reason == "timed out"
    assert site.side_effects("next") == ["a"]
    assert site.side_effects("ask") == ["a"]
    assert view.stages["normal"].status == "skipped"
    assert view.stages["many"].status == "succeeded"


async def test_release_and_reject_are_acts_of_a_named_person(site: Any) -> None:
    """Who and why stand in the row; a rejected gate fails its job."""
    site.pipeline(
        "p",
        "gates: {review: {after: one, until: facts.ok}}\n"
        "stages:\n  - {name: one, type: work}\n  - {name: two, type: work}\n",
    )
    site.start_all()
    await site.submit("good", "bad")
    await site.until_job("good", "waiting")
    await site.until_job("bad", "waiting")
    await site.say("good", "release", gate="review", reason="looked at it")
    await site.say("bad", "reject", gate="review", reason="blurred")
    good, bad = await site.until_job("good", "succeeded"), await site.until_job("bad", "failed")

    assert good.stages["review"].reason == "released by test: looked at it"
    assert good.metadata["gate.review.released_by"] == "test"
    assert bad.stages["review"].error.code == "G002"
    assert "blurred" in bad.stages["review"].error.message
    await site.say("bad", "retry")
    await site.until_job("bad", "waiting")


async def test_a_sleep_survives_the_keeper(site: Any) -> None:
    """Everything that waits is a row."""
    site.pipeline(
        "p", "stages:\n  - {name: nap, echo: zzz, sleep: 3}\n  - {name: two, type: work}\n"
    )
    site.start_all()
    await site.submit("a")
    await site.until_job("a", "waiting")
    site.kill("keeper")
    site.start("keeper", "--keeper")
    view = await site.until_job("a", "succeeded")
    assert 3_000 <= view.stages["nap"].duration_ms <= 12_000


async def test_two_hundred_megabytes_pass_beside_the_log(site: Any) -> None:
    """The snapshot travels as a reference, across a killed worker, and is gone after the purge."""
    from streams.client import Submission

    site.pipeline(
        "p",
        "retention: {jobs: 2s}\nstages:\n  - {name: one, type: measure}\n  - {name: two, type: brief}\n",
    )
    site.start_all()
    info = await site.info()
    file = site.folder / "big.bin"
    with file.open("wb") as target:
        for _ in range(200):
            target.write(bytes(1_000_000))
    job = await site.client.submit(
        info, Submission(id="a", file=file, content_type="application/octet-stream")
    )

    async def measuring() -> bool:
        return len(site.side_effects("one")) > 0 or (await site.job(job)).status == "running"

    await site.until(measuring)
    site.kill("agents-1")
    site.start("agents-1", "--agents")
    view = await site.until_job("a", "succeeded", timeout=60)
    assert view.stages["one"].outputs == 200_000_000
    assert await site.bytes_in_log() < 100_000

    async def purged() -> bool:
        return await site.blobs.list_prefix(f"{site.settings.namespace}/p") == []

    await site.until(purged)
