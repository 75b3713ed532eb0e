"""Verbs run in a project folder whose log a scene has written."""

import asyncio

import pytest
from typer.testing import CliRunner

from streams.cli.main import app
from streams.clock import ManualClock
from tests.unit.cli.scene import START, Scene


@pytest.fixture
async def scene():
    """A log in memory, five minutes after the scene's start."""
    made = await Scene.open()
    yield made
    await made.log.close()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with an embedded log; `project(coroutine function of a scene)` writes to it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".streams").mkdir()
    path = tmp_path / ".streams" / "log.db"

    def write(act):
        async def work():
            made = await Scene.open(path, ManualClock(START))
            try:
                return await act(made)
            finally:
                await made.log.close()

        return asyncio.run(work())

    return write


@pytest.fixture
def streams():
    """Runs a verb; gives its result."""
    runner = CliRunner()

    def invoke(*args: str, input: str | None = None):
        return runner.invoke(app, list(args), input=input)

    return invoke
