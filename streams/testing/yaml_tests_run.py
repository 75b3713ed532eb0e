"""Runs the tests of a file: a world of its own for each, one step after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from streams.errors import NotFoundError, StreamsError
from streams.inspection.jobs import Job
from streams.outcome import Fail
from streams.testing.tester import TopologyTester
from streams.testing.yaml_tests import TestFile, stand_ins
from streams.testing.yaml_tests_model import (
    ExpectModel,
    JobExpectModel,
    LetterModel,
    StageExpectModel,
    StepModel,
)
from streams.topology.source import Path as Place

NOT_THERE = "nothing"
_ARMS = ("fail_next", "crash_before_commit", "expect")
"""Steps after which nothing has to run."""


class Unmet(msgspec.Struct, frozen=True):
    """An expectation that does not hold, or a step that could not be done."""

    what: str
    expected: Any
    got: Any
    line: int
    column: int
    text: str
    """The source line."""
    why: str = ""
    """Where the job stands and why, in one line."""
    job: Job | None = None
    now: int = 0


class Result(msgspec.Struct, frozen=True):
    """One test."""

    file: str
    line: int
    name: str
    unmet: tuple[Unmet, ...]

    @property
    def passed(self) -> bool:
        return not self.unmet


def run_file(file: TestFile) -> Iterator[Result]:
    """Each test's result as soon as it is there."""
    for number in range(len(file.model.tests)):
        yield run_case(file, number)


def run_case(file: TestFile, number: int) -> Result:
    """One test, from a world in which nothing has happened."""
    case = file.model.tests[number]
    given = file.given(number)
    at: Place = ("tests", number)
    unmet: list[Unmet] = []
    with TopologyTester(
        file.topology,
        stages=stand_ins(given),
        partitions=file.model.partitions,
        secrets=given.secrets,
    ) as tester:
        run = _Run(file, tester)
        if given.facts:
            tester.set_facts(None, given.facts)
            tester.run_until_idle()
        for n, step in enumerate(case.steps):
            unmet = run.step(step, (*at, "steps", n, step.kind))
            if unmet:
                break
        if not unmet and case.expect is not None:
            unmet = run.judge(case.expect, (*at, "expect"))
        unmet = unmet or run.unspent(at)
    return Result(str(file.path), file.line(number), case.name, tuple(unmet))


class _Run:
    def __init__(self, file: TestFile, tester: TopologyTester) -> None:
        self._source = file.source
        self._tester = tester

    def step(self, step: StepModel, at: Place) -> list[Unmet]:
        """What follows from the step; findings where it cannot be done or does not hold."""
        value = getattr(step, step.kind)
        if step.kind == "expect":
            return self.judge(value, at)
        try:
            self._acts[step.kind](value)
            if step.kind not in _ARMS:
                self._tester.run_until_idle()
        except StreamsError as error:
            told = f"{error.message} ({error.code})"
            return [self._unmet(f"step `{step.kind}`", "can be done", told, at)]
        return []

    @property
    def _acts(self) -> dict[str, Callable[[Any], Any]]:
        t = self._tester
        return {
            "submit": lambda m: t.submit(m.pipeline, id=m.id, params=m.params, data=m.data),
            "send": t.send,
            "fact": lambda m: t.set_facts(m.job, m.set),
            "advance": lambda ms: t.advance(seconds=ms / 1000),
            "fail_next": lambda m: t.fail_next(
                m.stage, Fail(m.error, retriable=m.retriable), m.times
            ),
            "crash_before_commit": lambda m: t.crash_before_commit(m and m.stage),
            "release": lambda m: t.release(m.job, m.gate, reason=m.reason),
            "reject": lambda m: t.reject(m.job, m.gate, reason=m.reason),
            "cancel": lambda m: t.cancel(m.job, reason=m.reason),
            "pause": lambda m: t.pause(m and m.stage),
            "resume": lambda m: t.resume(m and m.stage),
            "retry": lambda m: t.retry(m.job, m.start, reason=m.reason),
            "redrive": lambda m: t.redrive(m.job, reason=m.reason),
        }

    def unspent(self, at: Place) -> list[Unmet]:
        """What was to go wrong and never did: a test that passes without it shows nothing."""
        left = self._tester.unspent
        told = "failures and crashes that were asked for"
        return [self._unmet(told, "all happen", f"not yet: {', '.join(left)}", at)] if left else []

    # -- expectations -----------------------------------------------------------------------

    def judge(self, expect: ExpectModel, at: Place) -> list[Unmet]:
        """Every expectation that does not hold."""
        unmet: list[Unmet] = []
        for job, wanted in expect.jobs.items():
            unmet += self._job(job, wanted, (*at, "jobs", job))
        for where, jobs in expect.held.items():
            got = sorted(held.job for held in self._tester.held(where))
            if got != sorted(jobs):
                strays = sorted(set(got) ^ set(jobs))
                unmet.append(
                    self._unmet(
                        f"held at {where}", sorted(jobs), got, (*at, "held", where), *strays[:1]
                    )
                )
        for stage, outputs in expect.outputs.items():
            unmet += self._outputs(stage, outputs, (*at, "outputs", stage))
        if expect.dlq is not None:
            unmet += self._dlq(expect.dlq, (*at, "dlq"))
        if expect.done is not None:
            got = sorted(self._tester.done)
            if got != sorted(expect.done):
                strays = sorted(set(got) ^ set(expect.done))
                unmet.append(
                    self._unmet("done", sorted(expect.done), got, (*at, "done"), *strays[:1])
                )
        return unmet

    def _job(self, id: str, wanted: str | JobExpectModel, at: Place) -> list[Unmet]:
        try:
            view = self._tester.job(id)
        except NotFoundError as error:
            return [self._unmet(f"job {id}", "a job", error.message, at)]
        if isinstance(wanted, str):
            return self._compare(f"status of {id}", wanted, view.status, at, id)
        unmet = []
        for name, got in (
            ("status", view.status),
            ("at", view.current_stage),
            ("attempts", view.attempts),
            ("facts", view.facts),
            ("metadata", view.metadata),
            ("reason", view.reason),
            ("error", _said(view.error)),
        ):
            if name in wanted.model_fields_set:
                value = getattr(wanted, name)
                unmet += self._compare(f"{name} of {id}", value, got, (*at, name), id)
        for stage, model in wanted.stages.items():
            place = (*at, "stages", stage)
            shown = view.stages.get(self._path(stage))
            if isinstance(model, str):
                status = shown.status if shown else NOT_THERE
                unmet += self._compare(f"{stage} of {id}", model, status, place, id)
            elif shown is None:
                unmet.append(self._unmet(f"{stage} of {id}", "reached", NOT_THERE, place, id))
            else:
                unmet += self._stage(id, stage, model, shown, place)
        return unmet

    def _stage(
        self, id: str, stage: str, wanted: StageExpectModel, shown: Any, at: Place
    ) -> list[Unmet]:
        unmet: list[Unmet] = []
        for name in sorted(wanted.model_fields_set):
            if name == "outputs":
                got = self._tester.outputs(stage).get(id, NOT_THERE)
            elif name == "error":
                got = _said(shown.error)
            else:
                got = getattr(shown, name)
            value = getattr(wanted, name)
            unmet += self._compare(f"{name} of {stage} of {id}", value, got, (*at, name), id)
        return unmet

    def _outputs(self, stage: str, wanted: dict[str, Any], at: Place) -> list[Unmet]:
        found = self._tester.outputs(stage)
        unmet: list[Unmet] = []
        for job, value in wanted.items():
            got = found.get(job, NOT_THERE)
            unmet += self._compare(f"output of {stage} of {job}", value, got, (*at, job), job)
        return unmet

    def _dlq(self, wanted: list[LetterModel], at: Place) -> list[Unmet]:
        got = [
            {k: getattr(each, k) for k in ("reason", "stage", "job", "error", "state")}
            for each in self._tester.dlq
        ]
        asked = [{name: getattr(m, name) for name in m.model_fields_set} for m in wanted]
        left = list(got)
        for letter in asked:
            fit = next((each for each in left if _letter_fits(letter, each)), None)
            if fit is None:
                return [self._unmet("dead letters", asked, got, at, *_jobs(got))]
            left.remove(fit)
        return [self._unmet("dead letters", asked, got, at, *_jobs(left))] if left else []

    def _path(self, stage: str) -> str:
        """The id of a stage that may be called by its name."""
        return self._tester.stage_id(stage)

    def _compare(self, what: str, wanted: Any, got: Any, at: Place, job: str) -> list[Unmet]:
        name = what.partition(" ")[0]
        fits = str(wanted) in str(got) if name in ("error", "reason") else matches(wanted, got)
        return [] if fits else [self._unmet(what, wanted, got, at, job)]

    def _unmet(self, what: str, expected: Any, got: Any, at: Place, job: str = "") -> Unmet:
        node = self._source.place(at)
        line, column = (node.line, node.column) if node else (0, 0)
        text = self._source.lines[line - 1] if line else ""
        found = why = None
        if job:
            try:
                found, why = self._tester.look(job), self._tester.why(job)
            except NotFoundError as error:
                why = error.message
        now = round(self._tester.now.timestamp() * 1000)
        return Unmet(what, expected, got, line, column, text, why or "", found, now)


def matches(wanted: Any, got: Any) -> bool:
    """Whether what is there is what was expected: of a mapping the keys that are named, anything
    else exactly."""
    if isinstance(wanted, dict):
        return isinstance(got, dict) and all(
            key in got and matches(value, got[key]) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(got, list) and len(wanted) == len(got) and all(map(matches, wanted, got))
    return (type(wanted) is type(got) and bool(wanted == got)) or _same_number(wanted, got)


def _same_number(wanted: Any, got: Any) -> bool:
    numbers = (int, float)
    plain = not isinstance(wanted, bool) and not isinstance(got, bool)
    return plain and isinstance(wanted, numbers) and isinstance(got, numbers) and wanted == got


def _letter_fits(wanted: dict[str, Any], got: dict[str, Any]) -> bool:
    return all(
        str(value) in str(got[name]) if name == "error" else value == got[name]
        for name, value in wanted.items()
    )


def _jobs(letters: list[dict[str, Any]]) -> list[str]:
    return [each["job"] for each in letters if each["job"]][:1]


def _said(error: Any) -> str:
    return f"{error.code}: {error.message}" if error is not None else NOT_THERE
