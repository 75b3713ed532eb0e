"""The lines a worker writes are a list that people can rely on: docs/operate.md has it."""

import ast
import io
import json
import re
from pathlib import Path

from streams.observe import logs
from streams.outcome import Fail
from streams.settings import Settings
from tests.unit.runtime.rig import Rig

ROOT = Path(__file__).parents[3]
LEVELS = {"debug", "info", "warning", "error", "exception"}
OURS = {"log", "_log"}
"""What modules call their logger; a stage's is `ctx.log`."""


def lines_in_code():
    """(event, level, fields) of every line that the package can write."""
    for path in sorted((ROOT / "streams").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in LEVELS
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in OURS
            ):
                event = node.args[0]
                assert isinstance(event, ast.Constant), f"{path}:{node.lineno}: no plain name"
                level = "error" if node.func.attr == "exception" else node.func.attr
                yield event.value, level, {keyword.arg for keyword in node.keywords}


def words(cell):
    return set(re.findall(r"`([\w.]+)`", cell))


def table():
    """Event → (levels, fields), as the page has it."""
    page = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+\.\w+)` \| ([\w, ]+?) \| ([^|]*?) ?\|", page, re.MULTILINE)
    return {event: (set(levels.split(", ")), words(fields)) for event, levels, fields in rows}


def test_every_line_stands_in_the_table_with_its_level_and_fields_and_no_other_does():
    """Who searches logs or builds alerts on them reads the table, not the code."""
    found = {}
    for event, level, fields in lines_in_code():
        levels, names = found.setdefault(event, (set(), set()))
        levels.add(level)
        names |= fields

    assert found == table()


def test_a_name_is_a_thing_and_what_happened_to_it():
    """One form, so that `event` can be grouped by its first word."""
    for event, _, fields in lines_in_code():
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", event)
        assert not fields & {"reason", "message", "exc", "err"}, f"{event}: say `error`"


async def test_a_worker_tells_its_life_and_a_failure_in_named_lines(tmp_path):
    """From the start to the end, each with its pipeline and worker; secrets are masked."""
    out = io.StringIO()
    topology = "gates: {go: {after: one, until: facts.go}}\nstages:\n"
    topology += "  - {name: one, type: t}\n  - {name: two, type: f, depends_on: [one]}\n"
    stages = {"t": lambda ctx: "ok", "f": lambda ctx: Fail("no hunter2", code="MINE")}
    logs.add_redactor(mask)
    try:
        async with Rig(tmp_path, topology, stages=stages) as rig:
            logs.configure(Settings(log_level="debug"), stream=out, clock=rig.clock)
            worker = rig.worker()
            task = rig.start(worker)
            await rig.submit()
            await rig.view_when(status="waiting")
            await rig.signal("fact", facts={"go": True})
            await rig.view_when(status="failed")
            await rig.pass_time(2)
            worker.leave()
            await rig.until(task.done)
    finally:
        logs.remove_redactor(mask)
        logs.configure(Settings())
    lines = [json.loads(line) for line in out.getvalue().splitlines()]

    assert {(line["pipeline"], line["worker"]) for line in lines} == {("p", "w")}
    events = [line["event"] for line in lines]
    assert events[0] == "worker.started"
    assert events[-2:] == ["worker.draining", "worker.stopped"]
    assert sorted(events) == [
        "gate.released",
        "ledger.restored",
        "partition.assigned",
        "partition.assigned",
        "stage.failed",
        "worker.draining",
        "worker.ready",
        "worker.started",
        "worker.stopped",
    ]
    [failed] = [line for line in lines if line["event"] == "stage.failed"]
    assert {key: failed[key] for key in ("stage", "job", "code", "error", "attempts")} == {
        "stage": "two",
        "job": "j",
        "code": "MINE",
        "error": "no ***",
        "attempts": 1,
    }
    [released] = [line for line in lines if line["event"] == "gate.released"]
    assert (released["gate"], released["job"], released["status"]) == ("go", "j", "succeeded")


def mask(text):
    return text.replace("hunter2", "***")


async def test_what_a_stage_says_keeps_its_fields(tmp_path):
    """`ctx.log.info("parsed", pages=3)` can be searched by `pages`; a name of ours is not
    overwritten."""
    out = io.StringIO()

    def says(ctx):
        ctx.log.bind(document="d1").info("parsed %s", "all", pages=3, level="deep", what=object)
        return "ok"

    one = "stages:\n  - {name: one, type: t}\n"
    async with Rig(tmp_path, one, stages={"t": says}) as rig:
        logs.configure(Settings(), stream=out, clock=rig.clock)
        try:
            await rig.start_both()
            await rig.submit()
            await rig.view_when()
        finally:
            logs.configure(Settings())
    lines = [json.loads(line) for line in out.getvalue().splitlines()]

    [line] = [line for line in lines if line["logger"] == "streams.stage"]
    assert line["event"] == "parsed all"
    assert (line["pages"], line["document"], line["level"], line["level_"]) == (
        3,
        "d1",
        "info",
        "deep",
    )
    assert line["what"] == "<class 'object'>"
