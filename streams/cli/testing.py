"""Verb about tests: test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.output import Form, FormOption, give, paint, say, show

if TYPE_CHECKING:
    from streams.testing.yaml_tests import TestFile
    from streams.testing.yaml_tests_run import Result, Unmet

app = typer.Typer()

NOT_OF_TESTS = frozenset({"who", "workers", "worker"})
"""What `why` tells of a real log only."""


@app.command("test")
def run_tests(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH…]", help="Files or folders; without any, this folder."),
    ] = None,
    output: FormOption = Form.TABLE,
) -> None:
    """Runs the `*.test.yaml` files beside topologies, in virtual time and without a broker.

    Exit code 0: all hold; 1: one does not; 2: a file has faults, and nothing was run.
    """
    from streams.plugins import unload_project_modules
    from streams.testing.yaml_tests_report import as_object
    from streams.testing.yaml_tests_run import run_case

    results: list[Result] = []
    for file in _read(paths or [Path()]):
        try:
            for number in range(len(file.model.tests)):
                results.append(run_case(file, number))
                if output is Form.TABLE:
                    _tell(results[-1])
        finally:
            # The next folder may have modules of the same names.
            unload_project_modules([file.topology.resolve().parent])
    if output is not Form.TABLE:
        show(results, output, columns={}, name=lambda r: f"{r.file}::{r.name}", plain=as_object)
    failed = sum(not result.passed for result in results)
    say(f"{len(results) - failed} passed" + (f", {failed} failed" if failed else ""))
    if failed:
        raise typer.Exit(1)


def _read(paths: list[Path]) -> list[TestFile]:
    """All files, checked before any of them runs; raises with the faults of all."""
    from streams.plugins import unload_project_modules
    from streams.testing.yaml_tests import find_test_files, read_test_file
    from streams.topology.findings import Finding, TopologyError

    files: list[TestFile] = []
    findings: list[Finding] = []
    for path in find_test_files(paths):
        try:
            files.append(read_test_file(path))
        except TopologyError as error:
            findings += error.findings
        finally:
            unload_project_modules([path.resolve().parent])
    if findings:
        raise TopologyError(findings)
    return files


def _tell(result: Result) -> None:
    """One test: whether it holds, and everything that does not."""
    from streams.testing.yaml_tests_report import report

    mark = paint("passed", "succeeded") if result.passed else paint("failed", "failed")
    give(f"{mark}  {result.file}:{result.line}  {result.name}")
    if not result.passed:
        give(report(result, _why))


def _why(unmet: Unmet) -> list[str]:
    """What `streams why` says of the job, without the commands."""
    from streams.cli.why import reason_of

    if unmet.job is None:
        return [unmet.why] if unmet.why else []
    reason = reason_of(unmet.job, unmet.now)
    shown = [line for line in reason.lines if line.label not in NOT_OF_TESTS]
    width = max([len(line.label) for line in shown], default=0)
    told = [f"  {line.label.ljust(width)}  {line.text}".rstrip() for line in shown]
    return [reason.headline, *told]
