"""What strangers, accidents and retention do to a pipeline on a real broker (reliability.md §3c,
rows 20-23 and 26; §4, rows E1-E12): nothing is lost, nothing is skipped in silence, no worker dies.

Two processes of agents and the keeper in a third.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from streams.event import submission_job_id
from tests.integration.command import ROOT
from tests.integration.outside import Stranger, binary, rows_of, site_on, structured

pytestmark = pytest.mark.processes

LIMIT = 1_048_588
"""`max.message.bytes` of every topic, and the broker's own `message.max.bytes`."""
THREE = """
stages:
  - {id: a, type: work}
  - {id: b, type: grows, depends_on: [a]}
  - {id: c, type: measures, depends_on: [b]}
"""
GROWING = """
from streams import stage


@stage(type="grows")
def grows(given):
    return {"text": "x" * 3_000_000} if given["given"].get("grow") else given


@stage(type="forty")
def forty(given):
    return "y" * 45_000


@stage(type="measures")
def measures(given):
    return len(str(given))
"""


@pytest.fixture
async def site(tmp_path, kafka):
    async with site_on(kafka, tmp_path) as made:
        yield made


@pytest.fixture
def stranger(kafka):
    made = Stranger(kafka)
    yield made
    made.close()


async def jobs_done(site, count, *, timeout=60):
    """Ids of the jobs that have ended, once there are so many."""
    await site.info()

    async def enough():
        done = await site.done_events()
        return done if len(done) >= count else None

    try:
        return await site.until(enough, timeout=timeout)
    except TimeoutError:
        raise AssertionError(f"{len(await site.done_events())} of {count}\n{site.logs()}") from None


async def letters_of(site, count):
    """The dead letters, once there are so many."""

    async def enough():
        found = await site.client.dead_letters("p")
        return found if len(found) >= count else None

    try:
        return await site.until(enough)
    except TimeoutError:
        raise AssertionError(f"{await site.client.dead_letters('p')}\n{site.logs()}") from None


def all_live(site):
    """No process has ended."""
    return all(process.poll() is None for process in site.processes.values())


def malformed():
    """(value, headers) of what is no event, or breaks its rules."""
    good = binary("bad")
    without = {name: [h for h in good if h[0] != name] for name, _ in good}
    return [
        (b'{"n": 1}', []),
        (None, []),
        (b"\xff\xfe", []),
        (b"{}", without["ce_id"]),
        (b"{}", without["ce_type"]),
        (b"{}", [*without["ce_id"], ("ce_id", b"   ")]),
        (b"{}", [*without["ce_id"], ("ce_id", b"\xff\xfe")]),
        (b"{}", [*without["ce_id"], ("ce_id", None)]),
        (b"{}", [*without["ce_specversion"], ("ce_specversion", b"0.3")]),
        (b"{}", [*good, ("ce_time", b"yesterday")]),
        (b"{}", [*good, ("ce_FooBar", b"1")]),
        (b"{}", [*good, ("ce_huge", b"x" * 40_000)]),
        (b"{}", [*good, ("ce_job", b"@job")]),
        (b'{"broken', good),
        (b'{"a": 1, "a": 2}', good),
        (b"[" * 100_000, good),
        (None, [("content-type", b"application/cloudevents+json")]),
        (b"[]", [("content-type", b"application/cloudevents-batch+json")]),
        (b'{"id": "x"}', [("content-type", b"application/cloudevents+json")]),
        (b"\xff", [("content-type", b"application/cloudevents+json")]),
    ]


async def test_malformed_records_are_dead_letters_and_the_good_ones_between_them_are_done(
    site, stranger
):
    """Row 20, E1-E11: in the intake, on a stage's topic and on hold; bytes as they came."""
    site.pipeline(
        "p", "stages:\n  - {id: a, type: work}\n  - {id: b, type: work, depends_on: [a]}\n"
    )
    site.start_all()
    names = (await site.info()).naming
    bad, sent = malformed(), []
    for n in range(200):
        forged = [("ce_epoch", b"9"), ("ce_scope", b"other"), ("ce_tenant", b"admin")]
        headers = [*binary(f"good-{n}"), *(forged if n % 7 == 0 else [])]
        stranger.send(names.intake, b'{"n": 1}', f"k{n}", headers)
        sent.append(submission_job_id("/stranger", f"good-{n}"))
        if n % 10 == 5:
            value, headers = bad[n // 10]
            stranger.send(names.intake, value, None, headers)
    elsewhere = [(b'{"n": 1}', [], b"k"), (None, [], b"k|@job"), (b"{}", binary("e"), None)]
    for topic in (names.stage("a"), names.hold):
        for value, headers, key in elsewhere[: 3 if topic != names.hold else 2]:
            stranger.send(topic, value, key, headers)
    stranger.flush()

    assert sorted(await jobs_done(site, 200)) == sorted(sent)
    expected = [value for value, _ in bad] + [v for v, _, _ in elsewhere] + [b'{"n": 1}', None]
    letters = await letters_of(site, len(expected))
    assert Counter(letter.value for letter in letters) == Counter(expected)
    for letter in letters:
        found = [h for v, h in bad if v == letter.value] + [h for v, h, _ in elsewhere]
        assert list(letter.headers) in [list(headers) for headers in found]
        assert letter.reason.startswith("V")
        assert letter.offset is not None
    assert all_live(site)


async def test_an_unknown_version_of_the_plan_is_offered_again_and_stops_nobody(site, stranger):
    """To an agent it looks like a rolling upgrade, so it asks the keeper to send it again; what no
    control record knows either is a dead letter then, not a loop and not a loss."""
    site.pipeline("p", "stages:\n  - {id: a, type: work}\n")
    site.start("both", "--agents", "--keeper")
    names = (await site.info()).naming
    await site.submit("one")
    await jobs_done(site, 1)
    (message,) = stranger.read(names.stage("a"))
    digest = (await site.info()).active.encode()
    headers = [(name, raw.replace(digest, b"f" * 16)) for name, raw in message.headers()]
    value = message.value().replace(digest, b"f" * 16)
    stranger.send(names.stage("a"), value, message.key(), headers, partition=message.partition())
    stranger.flush()
    await site.submit("two", "three")

    assert sorted(await jobs_done(site, 3)) == ["one", "three", "two"]
    (letter,) = await letters_of(site, 1)
    assert (letter.reason, letter.topic) == ("K040", names.hold)
    assert b"no-capable-worker" in dict(letter.headers)["ce_reason"]
    assert sorted(site.side_effects("a")) == ["one", "three", "two"]
    assert all_live(site)


async def test_events_up_to_the_broker_s_limit_pass_and_larger_ones_are_refused_there(
    site, stranger
):
    """Row 21: at the limit it is put away or a pointer; a result that grows past it is a reference;
    nothing stands still behind it."""
    (site.folder / "growing.py").write_text(GROWING)
    brings = ("site_stages:stages", "growing:grows", "growing:measures")
    site.pipeline("p", THREE, brings)
    site.start_all()
    names = (await site.info()).naming
    largest = LIMIT - 700
    text = json.dumps({"text": "y" * (largest - 20)}).encode()
    stranger.send(names.intake, text, None, binary("largest"))
    stranger.send(names.intake, json.dumps({"text": "y" * 100_000}).encode(), None, binary("large"))
    value, headers = structured("whole", {"text": "z" * (largest - 400)})
    stranger.send(names.intake, value, None, headers)
    stranger.send(names.intake, b"\0" * largest, b"garbage", [])
    stranger.send(names.intake, b"{}", None, [*binary("heads"), ("ce_x", b"h" * (largest - 400))])
    params = {"params": {"p": "q" * 900_000}}
    submit = binary("params", type="interlock.job.submit.v1")
    stranger.send(names.intake, json.dumps(params).encode(), None, submit)
    for size in (LIMIT + 1, 10 * 1024 * 1024):
        stranger.send(names.intake, b"\0" * size, None, binary("too-large"))
    stranger.send(names.intake, b'{"grow": true}', None, binary("grows"))
    stranger.send(names.intake, b'{"n": 1}', None, binary("last"))
    stranger.flush()

    assert stranger.refused == ["MSG_SIZE_TOO_LARGE"] * 2
    expected = [
        submission_job_id("/stranger", e) for e in ("largest", "large", "whole", "grows", "last")
    ]
    assert sorted(await jobs_done(site, 5)) == sorted(expected)
    rows = rows_of(stranger.read(names.ledger))
    assert {rows[f"{job}|@job"]["s"] for job in expected} == {"SUCCESS"}
    assert rows[f"{expected[3]}|c"]["out"] == 3_000_012

    letters = {letter.key: letter for letter in await letters_of(site, 3)}
    assert len(letters) == 2
    garbage = letters[b"garbage"]
    assert (garbage.value, garbage.omitted) == (None, "value")
    told = {name: raw for m in stranger.read(names.dead) if m.key() == b"garbage"
            for name, raw in m.headers()}  # fmt: skip
    assert told["streams-dlq-size"] == str(largest).encode()
    assert len(told["streams-dlq-sha256"]) == 64
    reasons = sorted(letter.reason for letter in await site.client.dead_letters("p"))
    assert "V050" in reasons
    assert all_live(site)


async def test_many_large_results_meet_at_one_join_and_no_event_outgrows_the_log(site):
    """Row 21: each is below what travels inline, together they are larger than a record."""
    (site.folder / "growing.py").write_text(GROWING)
    ways = [f"s{n}" for n in range(30)]
    stages = "".join(f"  - {{id: {way}, type: forty, depends_on: [r]}}\n" for way in ways)
    last = f"  - {{id: z, type: measures, depends_on: [{', '.join(ways)}]}}\n"
    text = f"stages:\n  - {{id: r, type: work}}\n{stages}{last}"
    site.pipeline("p", text, ("site_stages:stages", "growing:forty", "growing:measures"))
    site.start("both", "--agents", "--keeper")
    await site.submit("one")

    view = await site.until_job("one", "succeeded")
    assert view.stages["z"].outputs > 30 * 45_000
    assert all_live(site)


async def test_events_sent_twice_are_one_job_and_another_body_under_an_id_is_a_conflict(
    site, stranger
):
    """Row 23, E12: duplicates 0; the conflicts are exactly the dead letters."""
    site.pipeline("p", "stages:\n  - {id: a, type: work}\n")
    site.start_all()
    names = (await site.info()).naming
    for n in range(300):
        value = json.dumps({"n": n}).encode()
        stranger.send(names.intake, value, f"k{n}", binary(f"e{n}"))
        if n % 10 == 0:  # other key, other partition, the same event
            stranger.send(names.intake, value, f"again{n}", binary(f"e{n}"))
        if n % 100 == 0:
            stranger.send(names.intake, b'{"n": "other"}', f"k{n}", binary(f"e{n}"))
    stranger.flush()

    expected = sorted(submission_job_id("/stranger", f"e{n}") for n in range(300))
    assert sorted(await jobs_done(site, 300)) == expected
    letters = await letters_of(site, 3)
    assert [letter.reason for letter in letters] == ["V040"] * 3
    assert sorted(site.side_effects("a")) == expected
    assert sorted(await site.done_events()) == expected
    assert all_live(site)


async def test_retention_past_a_source_s_position_halts_that_partition_with_both_numbers(
    site, stranger
):
    """Row 26: never a silent skip; the other partitions go on."""
    topic = stranger.topic(2)
    declared = json.dumps({"topic": topic, "format": "json", "id": "${{ data.id }}"})
    site.pipeline("p", f"source: {declared}\nstages:\n  - {{id: a, type: work}}\n")
    for partition in (0, 1):
        stranger.send(topic, json.dumps({"id": f"first-{partition}"}), partition=partition)
    stranger.flush()
    site.start("agents", "--agents")
    site.start("keeper", "--keeper")
    await jobs_done(site, 2)
    assert site.stop("keeper") == 0
    for n in range(5):
        stranger.send(topic, json.dumps({"id": f"gone-{n}"}), partition=0)
    stranger.send(topic, b'{"id": "kept"}', partition=1)
    stranger.flush()
    stranger.trim(topic, 0, 4)
    site.start("keeper", "--keeper")

    assert sorted(await jobs_done(site, 3)) == ["first-0", "first-1", "kept"]

    async def halted():
        return site.said("source.halted", topic=topic, partition=0, code="K015")

    (line,) = await site.until(halted)
    assert re.search(r"stands at 1 of \S+/0, which has 4 to 6", line["error"])
    stranger.send(topic, b'{"id": "after"}', partition=1)
    stranger.flush()
    assert sorted(await jobs_done(site, 4)) == ["after", "first-0", "first-1", "kept"]
    assert all_live(site)


async def test_a_source_whose_position_was_deleted_is_not_begun_again(site, stranger):
    """Row 26, R5: neither from the start nor from the end; the operator decides."""
    topic = stranger.topic(1)
    declared = json.dumps({"topic": topic, "format": "json", "start": "latest"})
    site.pipeline("p", f"source: {declared}\nstages:\n  - {{id: a, type: work}}\n")
    site.start("both", "--agents", "--keeper")

    async def begun():
        return site.said("source.begins")

    await site.until(begun)
    stranger.send(topic, b'{"n": 1}')
    stranger.flush()
    await jobs_done(site, 1)
    names = (await site.info()).naming
    assert site.stop("both") == 0
    stranger.forget_group(names.source_group)
    stranger.send(topic, b'{"n": 2}')
    stranger.flush()
    site.start("both", "--agents", "--keeper")

    async def halted():
        return site.said("source.halted", topic=topic, code="K091")

    (line,) = await site.until(halted)
    assert "from 0 on; it holds 0 to 2" in line["error"]
    assert len(await site.done_events()) == 1
    assert all_live(site)
    assert site.stop("both") == 0
    code, (found,) = recover(site, "--apply")
    assert (code, found["topic"], found["new_position"], found["left"]) == (0, topic, 1, 1)
    site.start("both", "--agents", "--keeper")
    await jobs_done(site, 2)


async def test_retention_past_the_intake_s_position_ends_the_worker_with_both_numbers(
    site, stranger
):
    """Row 26: of its own topics nothing may be missing; it says so and stops."""
    site.pipeline("p", "stages:\n  - {id: a, type: work}\n")
    site.start("both", "--agents", "--keeper")
    names = (await site.info()).naming
    await site.submit("one")
    await jobs_done(site, 1)
    assert site.stop("both") == 0
    (place,) = {message.partition() for message in stranger.read(names.intake)}
    for n in range(3):
        stranger.send(names.intake, b"{}", None, binary(f"e{n}"), partition=place)
    stranger.flush()
    stranger.trim(names.intake, place, 3)
    site.start("both", "--agents", "--keeper")

    assert site.processes["both"].wait(timeout=30) != 0
    (line,) = site.said("worker.failed", code="K015")
    assert re.search(rf"stands at 1 in \S+intake/{place}, which has 3 to 4", line["error"])


async def test_a_pipeline_whose_own_positions_were_deleted_stops_until_they_are_recovered(
    site, stranger
):
    """Row 26, R5: nothing is begun again; `streams recover` finds out what was done, and then
    nothing is lost or done twice."""
    site.pipeline(
        "p", "stages:\n  - {id: a, type: work}\n  - {id: b, type: work, depends_on: [a]}\n"
    )
    site.start_all()
    names = (await site.info()).naming
    jobs = [f"j{n}" for n in range(20)]
    await site.submit(*jobs)
    await jobs_done(site, 20)
    for process in list(site.processes):
        assert site.stop(process) == 0
    await site.submit("meanwhile")
    for group in (names.keeper_group, names.pool_group("default")):
        stranger.forget_group(group)
    site.start_all()

    for process in list(site.processes):
        assert site.processes.pop(process).wait(timeout=30) != 0
    assert {line["code"] for line in site.said("worker.failed")} == {"K096"}
    code, shown = recover(site)
    assert code == 1
    assert {each["state"] for each in shown} == {"missing"}
    assert sum(each["left"] for each in shown) == 1, "the job that came meanwhile"
    assert len(shown) == 16, "intake, hold and two stages, four partitions each"
    assert recover(site, "--apply") == (0, shown)
    site.start_all()
    await site.submit("last")
    await jobs_done(site, 22)
    await site.clock.sleep(1)

    assert sorted(await site.done_events()) == sorted([*jobs, "meanwhile", "last"])
    assert Counter(site.side_effects("a")) == Counter([*jobs, "meanwhile", "last"])
    assert await site.client.dead_letters("p") == []
    assert all_live(site)


def recover(site, *words):
    """Exit code, and what is said of each lost position."""
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli.main", "recover", "-o", "json", *words],
        cwd=site.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, json.loads(done.stdout or "[]")
