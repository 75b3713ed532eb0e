"""The pytest plugin: the fixture `topology_tester`, and `*.test.yaml` files as tests.

Whoever has the package installed has the plugin loaded, also in projects that test something else:
so it imports nothing of the package until a test asks for it, and takes a file only if it has both
`topology:` and `tests:` at its top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from streams.testing.tester import TopologyTester
    from streams.testing.yaml_tests import TestFile
    from streams.testing.yaml_tests_run import Result


@pytest.fixture
def topology_tester(request: pytest.FixtureRequest) -> Iterator[Callable[..., TopologyTester]]:
    """Makes testers as `TopologyTester` does, and closes them after the test. A file is looked
    for beside the test's own file first."""
    from streams.testing.tester import TopologyTester

    made: list[TopologyTester] = []

    def make(given: Any, **options: Any) -> TopologyTester:
        made.append(TopologyTester(_beside(request.path, given), **options))
        return made[-1]

    yield make
    for tester in made:
        tester.close()


def _beside(test: Path, given: Any) -> Any:
    """The same with files that lie beside the test found there."""
    if isinstance(given, list | tuple):
        return [_beside(test, each) for each in given]
    is_name = isinstance(given, Path) or (isinstance(given, str) and "\n" not in given)
    if is_name and not Path(given).is_absolute() and (test.parent / given).exists():
        return test.parent / given
    return given


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A file of tests, if it is one of ours."""
    from streams.testing.yaml_tests_files import is_ours

    if not is_ours(file_path):
        return None
    return YamlFile.from_parent(parent, path=file_path)


class YamlFile(pytest.File):
    """One `*.test.yaml`."""

    def collect(self) -> Iterator[pytest.Item]:
        from streams.errors import StreamsError
        from streams.testing.yaml_tests import read_test_file

        try:
            file = read_test_file(self._shown())
        except StreamsError as error:
            raise self.CollectError(_told(error)) from None
        for number, case in enumerate(file.model.tests):
            yield YamlItem.from_parent(self, name=case.name, file=file, number=number)

    def _shown(self) -> Path:
        """The path as whoever started pytest would write it."""
        start = self.config.invocation_params.dir
        return self.path.relative_to(start) if self.path.is_relative_to(start) else self.path


class YamlItem(pytest.Item):
    """One test of a file."""

    def __init__(self, *, file: TestFile, number: int, **given: Any) -> None:
        super().__init__(**given)
        self._file = file
        self._number = number

    def runtest(self) -> None:
        from streams.testing.yaml_tests_run import run_case

        result = run_case(self._file, self._number)
        if not result.passed:
            raise Unfulfilled(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, Unfulfilled):
            from streams.testing.yaml_tests_report import report

            return report(excinfo.value.result)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self._file.line(self._number) - 1, self.name


class Unfulfilled(Exception):
    """Carries a result with expectations that do not hold."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.name)
        self.result = result


def _told(error: Any) -> str:
    render = getattr(error, "render", None)
    return str(render()) if callable(render) else f"error[{error.code}]: {error.message}"
