"""`--priority` from the command line to the event, and what is shown of it."""

import json

import pytest

from streams.codec import kafka


def asked(project):
    """Job → the priority that its submission asks for."""

    async def read(scene):
        topic = scene.naming.intake
        records = [r async for r in scene.client.tail([topic], "beginning", follow=False)]
        events = [kafka.decode(record.value, record.headers) for record in records]
        return {
            event.extensions.get("job", event.id): event.extensions.get("priority")
            for event in events
        }

    return project(read)


@pytest.fixture
def gated(project):
    async def write(scene):
        await scene.waiting_at_gate("doc-1")

    project(write)
    return project


def test_a_job_s_priority_is_an_attribute_of_its_submission(gated, streams):
    """The same attribute that anybody's event may have."""
    streams("submit", "demo", "--id", "urgent", "--priority", "high")
    streams("submit", "demo", "--id", "plain")

    assert asked(gated) == {"urgent": "high", "plain": None}


def test_a_line_s_own_priority_goes_before_the_command_s(gated, streams, tmp_path):
    """`--priority` is for the lines that say nothing."""
    lines = ['{"id": "a"}', '{"id": "b", "priority": "high"}', '{"id": "c", "priority": "normal"}']
    (tmp_path / "jobs.jsonl").write_text("\n".join(lines))

    streams("submit", "demo", "--jobs", "jobs.jsonl", "--priority", "low")

    assert asked(gated) == {"a": "low", "b": "high", "c": None}


def test_a_word_that_is_no_priority_is_refused_where_it_stands(gated, streams, tmp_path):
    """Before anything is sent."""
    (tmp_path / "jobs.jsonl").write_text('{"id": "a", "priority": "urgent"}')

    line = streams("submit", "demo", "--jobs", "jobs.jsonl")
    option = streams("submit", "demo", "--priority", "urgent")

    assert (line.exit_code, "error[C109]: jobs.jsonl:1:" in line.stderr) == (2, True)
    assert (option.exit_code, "urgent" in option.stderr) == (2, True)
    assert asked(gated) == {}


def test_a_cloudevent_in_a_file_gets_the_priority_that_was_asked_for(gated, streams, tmp_path):
    """It is the sender who submits it now."""
    event = {"specversion": "1.0", "id": "e1", "source": "/shop", "type": "t", "data": {"n": 1}}
    (tmp_path / "event.json").write_text(json.dumps(event))

    streams("submit", "demo", "--data", "event.json", "--priority", "low")

    assert asked(gated) == {"e1": "low"}


def test_get_and_why_show_it(gated, streams):
    """Also of a job that no worker has taken up yet."""
    streams("submit", "demo", "--id", "urgent", "--priority", "high")

    assert json.loads(streams("get", "urgent", "-o", "json").stdout)["priority"] == "high"
    assert "priority  high" in streams("get", "urgent").stdout
    assert "priority" in streams("why", "urgent").stdout
    assert json.loads(streams("why", "doc-1", "-o", "json").stdout)["priority"] == "normal"
    assert "priority" not in streams("why", "doc-1").stdout
