"""Nothing in `streams` writes a row unnoticed: every place that can is listed here, with the lines
of the table that it writes. Read from the source, so a path that no test runs is seen too."""

import ast
from pathlib import Path

from streams.engine.rows import ENDED
from streams.engine.transitions import TRANSITIONS

STREAMS = Path(__file__).parents[3] / "streams"
CODES = {*ENDED, "WAITING", "RUNNING", "RETRYING"}
ROWS = {"PutRow", "Row", "JobRow", "InputRow", "FactRow"}
DEFINED_IN = {"engine.rows", "engine.transitions"}
"""What rows, statuses and lines are; nothing is written there."""

HANDED_ON = ("what it is told to",)
NO_ROW = ("none: it is shown, counted or compared",)
PURGED = tuple(f"{k} → none" for k in ("stage", "folded", "held", "job", "input", "fact", "dead"))

WRITERS: dict[str, tuple[str, tuple[str, ...]]] = {
    # function: (what it does that can make a row, the lines it writes)
    "engine.arrivals._companion": ("Row WAITING", HANDED_ON),
    "engine.arrivals._keep_dead": ("put", ("dead → WAITING",)),
    "engine.arrivals._keep_retry": ("put", ("delayed → WAITING",)),
    "engine.completion._good_end": ("SKIPPED SUCCESS", ("job → SUCCESS", "job → SKIPPED")),
    "engine.completion.complete": ("put", ("job → FAILED", "job → CANCELLED")),
    "engine.completion.forget": ("drop", PURGED),
    "engine.completion.settle_scope": ("CANCELLED FAILED", ("job → FAILED", "job → CANCELLED")),
    "engine.completion.stop": ("CANCELLED put", ("held → CANCELLED", "job → RUNNING")),
    "engine.completion.time_for_job": ("CANCELLED", ("job → CANCELLED",)),
    "engine.flow.Flow.end": ("Row put", HANDED_ON),
    "engine.flow.Flow.fail": ("FAILED", ("stage → FAILED", "folded → FAILED", "held → FAILED")),
    "engine.flow.Flow.put": ("PutRow", HANDED_ON),
    "engine.flow.Flow.run_folded": ("SKIPPED SUCCESS", ("folded → SUCCESS", "folded → SKIPPED")),
    "engine.gates._fail": ("FAILED", ("held → FAILED",)),
    "engine.gates._judge": ("put", ("held → WAITING",)),
    "engine.gates._look_first": ("SUCCESS put", ("held → SUCCESS", "held → WAITING")),
    "engine.gates._sleep": ("put", ("held → WAITING",)),
    "engine.gates._waiting": ("Row WAITING", HANDED_ON),
    "engine.gates.end": ("SUCCESS", ("held → SUCCESS",)),
    "engine.gates.enter": ("SKIPPED", ("held → SKIPPED",)),
    "engine.gates.time_is_up": ("SKIPPED", ("held → SKIPPED",)),
    "engine.intake._snapshot": ("InputRow", ("input → KEPT",)),
    "engine.intake.begin": ("JobRow RUNNING put", ("job → RUNNING", "input → KEPT")),
    "engine.keeping.unclaimed": ("drop", ("early → none",)),
    "engine.restarting._rearm_joins": ("Row WAITING put", ("arrival → WAITING",)),
    "engine.restarting.restart": ("RUNNING drop put", ("job → RUNNING", "dead → none")),
    "engine.routing.Step.branch": ("SUCCESS", ("stage → SUCCESS",)),
    "engine.routing.Step.cancel": ("CANCELLED", ("stage → CANCELLED",)),
    "engine.routing.Step.fail": ("FAILED", ("stage → FAILED",)),
    "engine.routing.later": ("RETRYING Row put", ("stage → RETRYING",)),
    "engine.routing.route": (
        "CANCELLED SKIPPED SUCCESS",
        ("stage → CANCELLED", "stage → SKIPPED", "stage → SUCCESS"),
    ),
    "engine.routing.tried": ("RETRYING", NO_ROW),
    "engine.signals._act": ("CANCELLED", ("job → CANCELLED",)),
    "engine.signals._discard": ("drop", ("dead → none",)),
    "engine.signals._keep_early": ("Row WAITING put", ("early → WAITING",)),
    "engine.signals._set_facts": ("FactRow put", ("fact → KEPT",)),
    "engine.signals.apply": (
        "put",
        ("job → RUNNING", *(f"job → {end}" for end in sorted(ENDED))),
    ),
    "engine.signals.apply_early": ("drop", ("early → none",)),
    "engine.signals.retry_now": ("drop", ("delayed → none",)),
    "engine.straight.Straight.events": ("SUCCESS", NO_ROW),
    "engine.straight.Straight.row": ("Row SUCCESS", ("stage → SUCCESS",)),
    "engine.turn.Turn.drop": ("PutRow", HANDED_ON),
    "engine.turn.Turn.keep_arrival": ("put", ("arrival → WAITING",)),
    "engine.turn.Turn.put": ("PutRow", HANDED_ON),
    "engine.turn.Turn.spend": ("put", ("arrival → SUCCESS",)),
    "engine.turn.Turn.sweep": ("drop", ("delayed → none", "arrival → none")),
    "engine.turn.spent": ("SUCCESS", ("arrival → SUCCESS",)),
    "engine.view._stage_view": ("CANCELLED RETRYING", NO_ROW),
    "engine.view.view_of": ("JobRow RUNNING", NO_ROW),
    "engine.view.read_rows": ("InputRow", NO_ROW),
    "faust.stages.FaustStages._mind": ("RUNNING Row put", ("stage → RUNNING",)),
    "inspection.jobs._submitted": ("InputRow", NO_ROW),
    "inspection.jobs.untaken": ("JobRow RUNNING", NO_ROW),
    "runtime.agent.Agent._show_running": ("RUNNING Row put", ("stage → RUNNING",)),
    "runtime.call_context": ("SUCCESS", NO_ROW),
    "runtime.deciding._fail": ("FAILED", ("job → FAILED",)),
    "runtime.inprocess.InProcess._snapshot": ("InputRow", ("input → KEPT",)),
    "runtime.inprocess_rows.Rows.__init__": ("InputRow", NO_ROW),
    "runtime.inprocess_rows.Rows._sort_own": ("InputRow", NO_ROW),
    "runtime.inprocess_rows.RunTurn.sweep": ("drop", ("delayed → none",)),
    "runtime.runner.Runner._wanted": ("SKIPPED", ("stage → SKIPPED",)),
    "runtime.runner.Runner.let_go": ("CANCELLED", ("stage → CANCELLED",)),
}


def writes(node):
    """What this node alone does that can make a row."""
    if isinstance(node, ast.Constant) and node.value in CODES:
        yield node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ROWS:
        yield node.func.id
    if isinstance(node, ast.Attribute) and node.attr in ("put", "drop"):
        if getattr(node.value, "id", "") in ("turn", "flow", "self"):
            yield node.attr


def walk(node, place):
    """(function, what it does), over a module; comparisons decide, they write nothing."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Compare | ast.Subscript):
            continue
        named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        inner = f"{place}.{child.name}" if named else place
        yield from ((inner, what) for what in writes(child))
        yield from walk(child, inner)


def found():
    """Every function of `streams` that can make a row → what in it can."""
    places = {}
    for file in sorted(STREAMS.rglob("*.py")):
        module = file.relative_to(STREAMS).with_suffix("").as_posix().replace("/", ".")
        if module not in DEFINED_IN:
            for place, what in walk(ast.parse(file.read_text(encoding="utf-8")), module):
                places.setdefault(place, set()).add(what)
    return {place: " ".join(sorted(what)) for place, what in places.items()}


def named(line):
    return f"{line.row} → {line.after or 'none'}"


def test_every_place_that_can_write_a_row_is_known():
    """A new one, or a new status in an old one: say here which line of the table it writes."""
    assert found() == {place: what for place, (what, _) in WRITERS.items()}


def test_what_they_write_are_the_lines_of_the_table():
    """No writer without a line, no line without a writer."""
    written = {line for _, lines in WRITERS.values() for line in lines}

    assert written - {*HANDED_ON, *NO_ROW} == {named(line) for line in TRANSITIONS}


def test_rows_leave_the_engine_only_as_actions():
    """`PutRow` is made in three places; the runtime makes records of it and nothing else."""
    makers = {place for place, what in found().items() if "PutRow" in what.split()}

    assert makers == {"engine.flow.Flow.put", "engine.turn.Turn.drop", "engine.turn.Turn.put"}
