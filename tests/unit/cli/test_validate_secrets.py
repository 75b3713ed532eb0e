"""`validate` names the secrets a pipeline needs; only running it refuses missing ones."""

import pytest
from typer.testing import CliRunner

from streams.app import App
from streams.cli.main import app
from streams.errors import UserError
from streams.plugins import unload_project_modules

TEXT = """\
pipeline: p
plugins: {stages: [{callable: "told:send"}]}
stages:
  - {name: a, uses: told/send@v1, with: {token: "${{ secrets.api_key }}"}}
"""
CODE = """\
from streams import tag

@tag("told", alias="send", version="v1")
def send(token: str) -> dict:
    return {}
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    (tmp_path / "told.py").write_text(CODE)
    (tmp_path / "p.yaml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "p.yaml"
    unload_project_modules([tmp_path])


def test_validate_names_each_secret_and_whether_it_is_set(file, monkeypatch):
    """A checker in CI has no secrets; the file is right all the same."""
    missing = CliRunner().invoke(app, ["validate", str(file)])
    monkeypatch.setenv("STREAMS_SECRET_API_KEY", "sesame")
    there = CliRunner().invoke(app, ["validate", str(file)])

    assert (missing.exit_code, there.exit_code) == (0, 0)
    assert "needs the secret api_key (not set here)" in missing.stderr
    assert "needs the secret api_key (set)" in there.stderr
    assert "sesame" not in there.output


async def test_running_it_without_the_secret_is_refused(file):
    """Before anything starts, not at the first job."""
    with pytest.raises(UserError, match="secret 'api_key' is not set"):
        await App.from_files(file).run()
