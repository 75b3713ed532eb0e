"""What scrolls by in `dev`: news once, and who waits where."""

import msgspec
import pytest

from streams.cli.live import LiveView
from streams.client import Change
from streams.engine.rows import Attempt, FactRow, Failure, JobRow, Row, Wait
from tests.unit.cli.scene import START


def view_of(*waiting):
    return LiveView(lambda digest, part: "review" if part == "review" else None, waiting)


def change(part, row, job="doc-1"):
    return Change("demo", job, part, row, START)


def words(lines):
    """Lines without the clock, which is the terminal's own."""
    return [" ".join(line.split()[1:]) for line in lines]


WAITING = Row("WAITING", phase=0, wait=Wait("gate", START))
DONE = Row("SUCCESS", times=(Attempt(1, START, START, START + 40, "SUCCESS"),))


def test_a_stages_end_is_one_line_with_how_long_it_took():
    assert words(view_of().lines_of(change("fetch", DONE))) == ["demo doc-1 fetch succeeded 40ms"]


def test_a_failure_says_what_happened():
    row = Row("FAILED", err=Failure("S001", "KeyError: 'text'"))

    assert words(view_of().lines_of(change("fetch", row))) == [
        "demo doc-1 fetch failed KeyError: 'text'"
    ]


def test_a_row_written_again_is_no_news():
    """A gate's row counts how often it was looked at."""
    view = view_of()
    view.lines_of(change("review", WAITING))

    assert view.lines_of(change("review", msgspec.structs.replace(WAITING, n=1))) == []


def test_a_retried_job_is_news_again():
    view = view_of()
    view.lines_of(change("fetch", DONE))

    assert view.lines_of(change("fetch", msgspec.structs.replace(DONE, epoch=2))) != []


@pytest.mark.parametrize(
    ("part", "row"),
    [
        ("@input", FactRow()),
        ("@fact/open", FactRow(True)),
        ("fetch~", WAITING),
        ("publish~fetch", WAITING),
        ("@job", JobRow("RUNNING")),
    ],
)
def test_what_only_the_engine_needs_is_not_shown(part, row):
    assert view_of().lines_of(change(part, row)) == []


def test_one_waiting_job_is_told_with_the_exact_command():
    view = view_of()
    view.lines_of(change("review", WAITING))

    assert view.gate_lines() == ["gate review: 1 waiting — streams gate release review doc-1"]
    assert view.gate_lines() == []


def test_several_waiting_jobs_are_told_together():
    view = view_of()
    for job in ("doc-1", "doc-2"):
        view.lines_of(change("review", WAITING, job))

    assert view.gate_lines() == ["gate review: 2 waiting — streams gate release review --all"]


@pytest.mark.parametrize("end", [("review", DONE), ("@job", JobRow("CANCELLED", completed=START))])
def test_whoever_has_left_the_gate_is_counted_no_more(end):
    view = view_of()
    for job in ("doc-1", "doc-2"):
        view.lines_of(change("review", WAITING, job))
    view.gate_lines()

    view.lines_of(change(*end))

    assert view.gate_lines() == ["gate review: 1 waiting — streams gate release review doc-2"]


async def test_jobs_that_waited_before_are_told_at_the_start(scene):
    await scene.waiting_at_gate("doc-7")

    view = view_of(*await scene.client.waiting())

    assert view.gate_lines() == ["gate review: 1 waiting — streams gate release review doc-7"]
