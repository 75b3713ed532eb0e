"""What a Faust app and a pipeline have to have for each other, told before anything runs."""

import sys

import faust
import pytest

from streams.errors import UserError
from streams.faust import attach
from streams.faust.consuming import CommittedTransport
from streams.plugins import unload_project_modules

STAGES = """\
pipeline: p
plugins: {stages: [{callable: 'faust_stages:one'}]}
gates: {review: {after: one, until: facts.ok}}
stages:
  - {name: one, type: one, pool: faust}
  - {name: two, type: one}
"""
CODE = "from streams import stage\n\n\n@stage\ndef one(ctx) -> int:\n    return 1\n"


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faust_stages.py").write_text(CODE)
    path = tmp_path / "p.yaml"
    path.write_text(STAGES)
    yield path
    unload_project_modules([tmp_path])


def app_with(**options):
    return faust.App("mine", broker="aiokafka://127.0.0.1:1", web_enabled=False, **options)


def refused(app, file, **more):
    with pytest.raises(UserError) as caught:
        attach(app, file, **more)
    return caught.value


def test_each_stage_of_the_pools_asked_for_is_an_agent_of_the_app(file):
    """Design §9: agent per stage; what has no user code stays with the keeper."""
    app = app_with()

    stages = attach(app, file, pools=["faust"])

    assert sorted(stages.agents) == ["one"]
    assert [topic for agent in app.agents.values() for topic in agent.channel.topics] == [
        "default.p.one"
    ]
    assert stages.ledger.changelog_topic.get_topic_name() == "default.p.ledger"


def test_without_pools_every_stage_with_user_code_is_an_agent(file):
    """The short form: the whole pipeline but its gates."""
    assert sorted(attach(app_with(), file).agents) == ["one", "two"]


def test_an_exactly_once_app_is_refused(file):
    """Faust's exactly_once doubled 78 % of the documents under kills: it is not to be relied on."""
    error = refused(app_with(processing_guarantee="exactly_once"), file)

    assert error.code == "F002"
    assert "at least once" in error.message


def test_an_app_that_would_pass_events_over_is_refused(file):
    """R5: never fall back to latest."""
    error = refused(app_with(consumer_auto_offset_reset="latest"), file)

    assert (error.code, "earliest" in error.message) == ("F003", True)


def test_pools_that_have_no_stage_are_refused(file):
    """An app with no agents of ours would look healthy and do nothing."""
    assert refused(app_with(), file, pools=["gpu"]).code == "F005"


def test_the_consumer_sees_committed_records_only(file):
    """Keepers abort; what they took back must not be run."""
    app = app_with()
    attach(app, file)

    assert isinstance(app.transport, CommittedTransport)


@pytest.mark.parametrize("package", ["faust", "cramjam"])
def test_a_missing_package_is_named_with_the_extra(file, monkeypatch, package):
    """Loaded on first use: the base install has neither."""
    if package == "faust":
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("streams.faust.find_spec", lambda name: name != package or None)

    error = refused(None, file)

    assert package in error.message
    assert (error.code, error.help) == ("F001", "pip install 'interlock-streams[faust]'")
