"""The verb that breaks things: what it refuses, and what it leaves out."""

import json

from typer.testing import CliRunner

from streams.cli.main import app


def run(*words):
    return CliRunner().invoke(app, ["chaos", *words])


def test_a_row_that_is_not_in_the_plan_is_not_found():
    """Exit code 3, as for anything that is asked for and not there."""
    result = run("--row", "99")

    assert result.exit_code == 3
    assert "there is no row 99" in result.stderr


def test_a_cluster_of_others_is_spared_rows_that_break_brokers():
    """Left out with its reason, never counted as passed."""
    result = run("--row", "5", "--kafka", "127.0.0.1:1", "-o", "json")

    assert result.exit_code == 0
    (verdict,) = json.loads(result.stdout)
    assert verdict["result"] == "skipped"
    assert verdict["skipped"] == "not on a cluster that others use"


def test_a_cluster_that_wants_a_login_is_refused_before_anything_is_started(tmp_path, monkeypatch):
    """C140: what tells transactions apart is read in plain text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "streams.yaml").write_text("kafka: {options: {security.protocol: SASL_SSL}}\n")

    result = run("--row", "1", "--kafka", "127.0.0.1:1")

    assert result.exit_code == 2
    assert "error[C140]" in result.stderr
