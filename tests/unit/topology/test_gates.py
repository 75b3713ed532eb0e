"""Gates: three spellings, one form (design §5, M3-M5, M18)."""

import pytest

from streams.topology.plan import Clause
from tests.unit.topology.checking import codes, edges, findings_of, only, plan_of

LIST = "stages: [{name: a, type: x}, {name: b, type: x}, {name: c, type: x}]\n"
READY = (Clause("pdf_ir_ready", "equals", True),)


def gate_of(text):
    plan = plan_of(text)
    return next(part.gate for part in plan.parts if part.gate)


def test_a_short_gate_sits_on_the_edges_that_leave_its_stage():
    plan = plan_of("gates: {review: {after: a, until: facts.reviewed, timeout: 3d}}\n" + LIST)

    assert edges(plan) == {"a": ["review"], "b": ["c"], "c": [], "review": ["b"]}
    assert plan.by_path["b"].needs == ("a",)
    assert plan.entries["review"] == "hold"
    gate = plan.by_path["review"].gate
    assert (gate.until, gate.facts, gate.timeout_ms) == (
        "facts.reviewed",
        ("reviewed",),
        259_200_000,
    )


def test_a_short_gate_holds_every_branch_behind_its_stage():
    plan = plan_of(
        """
        gates: {review: {after: a, until: facts.ok}}
        stages:
          - {name: a, type: x}
          - {name: b, type: x, depends_on: [a]}
          - {name: c, type: x, depends_on: [a]}
        """
    )

    assert edges(plan) == {"a": ["review"], "b": [], "c": [], "review": ["b", "c"]}


def test_two_gates_after_one_stage_stand_in_a_row():
    plan = plan_of(
        "gates: {two: {after: a, until: facts.y}, one: {after: a, until: facts.x}}\n" + LIST
    )

    assert edges(plan) == {"a": ["one"], "b": ["c"], "c": [], "one": ["two"], "two": ["b"]}


def test_a_gate_may_stand_after_the_last_stage():
    plan = plan_of("gates: {review: {after: a, until: facts.ok}}\nstages: [{name: a, type: x}]")

    assert edges(plan) == {"a": ["review"], "review": []}


def test_a_stage_may_depend_on_a_short_gate_by_name():
    plan = plan_of(
        """
        gates: {review: {after: a, until: facts.ok}}
        stages: [{name: a, type: x}, {name: b, type: x, depends_on: [review]}]
        """
    )

    assert edges(plan) == {"a": ["review"], "b": [], "review": ["b"]}


def test_a_gate_cannot_have_the_id_of_a_stage():
    assert codes("gates: {b: {after: a, until: facts.ok}}\n" + LIST) == ["T111"]


STAGE = """
gates:
  {gates}
stages:
  - {{name: download, type: x}}
  - {{name: wait_ir, type: gate, depends_on: [download], config: {config}}}
  - {{name: chunk, type: x, depends_on: [wait_ir]}}
"""


@pytest.mark.parametrize(
    ("gates", "config"),
    [
        ("ir: {field: metadata.pdf_ir_ready, equals: true}", "{gate: ir}"),
        ("ir: {field: ledger.pdf_ir_ready}", "{gate: ir}"),
        ("ir: {field: pdf_ir_ready}", "{gate: ir}"),
        ("ir: {field: facts.pdf_ir_ready}", "{gate: ir}"),
        ("- {name: ir, field: pdf_ir_ready}", "{gate: ir}"),
        ("ir: {condition: {field: pdf_ir_ready, equals: true}}", "{gate: ir}"),
        ("ir: {condition: {clauses: [{field: pdf_ir_ready, value: true}]}}", "{gate: ir}"),
        ("ir: {conditions: [{key: ledger.pdf_ir_ready, expected: true}]}", "{gate: ir}"),
        ("ir:", "{gate: ir, field: pdf_ir_ready, equals: true}"),
        ("ir: {}", "{gate: ir, condition: {field: pdf_ir_ready}}"),
        ("ir: {field: pdf_ir_ready}", "{gate: ir, field: metadata.pdf_ir_ready, equals: true}"),
    ],
)
def test_every_spelling_of_a_condition_gives_the_same_clauses(gates, config):
    gate = gate_of(STAGE.format(gates=gates, config=config))

    assert gate.clauses == READY
    assert gate.facts == ("pdf_ir_ready",)
    assert gate.name == "ir"
    assert gate.on_timeout == "fail"
    assert gate.timeout_ms is None


def test_a_gate_stage_may_say_everything_itself():
    """Document 000: no `gates:` needed."""
    gate = gate_of(
        """
        stages:
          - {name: a, type: x}
          - name: wait
            type: gate
            config: {gate: ir, field: pdf_ir_ready, equals: true, resume_stage: b, timeout_seconds: 900}
          - {name: b, type: x}
        """
    )

    assert (gate.name, gate.clauses, gate.timeout_ms) == ("ir", READY, 900_000)


def test_the_telling_key_gate_is_enough():
    plan = plan_of(
        "gates: {ok: {until: facts.ok}}\nstages: [{name: a, type: x}, {name: w, gate: ok}]"
    )

    assert plan.by_path["w"].kind == "gate"
    assert plan.by_path["w"].gate.name == "ok"


def test_the_condition_may_stand_at_the_stage():
    gate = gate_of(
        "stages: [{name: w, type: gate, condition: {mode: any, clauses: ["
        "{field: a, operator: exists}, {field: b.c, operator: changed}, {field: d, value: 3}]}}]"
    )

    assert gate.mode == "any"
    assert gate.clauses == (
        Clause("a", "exists"),
        Clause("b.c", "changed"),
        Clause("d", "equals", 3),
    )
    assert gate.facts == ("a", "b", "d")


@pytest.mark.parametrize(
    "text",
    [
        "gates: {g: {condition: facts.x, after: a}}\n" + LIST,
        "stages: [{name: g, type: gate, condition: '${{ facts.x }}'}]",
        "stages: [{name: g, type: gate, config: {until: facts.x}}]",
    ],
)
def test_a_condition_that_is_text_is_an_expression(text):
    assert gate_of(text).until == "facts.x"


def test_differences_between_the_gate_and_its_stage_are_refused():
    found = only(
        STAGE.format(gates="ir: {field: a, timeout: 30m}", config="{gate: ir, timeout_seconds: 5}"),
        "T205",
    )

    assert found.message == "gate `ir`: `timeout` differs from the one at line 3"


@pytest.mark.parametrize(
    "gate",
    [
        "{until: facts.x, field: y}",
        "{field: x, condition: {field: y}}",
        "{field: x, timeout: 3s, timeout_seconds: 4}",
    ],
)
def test_a_gate_that_contradicts_itself_is_refused(gate):
    assert codes(STAGE.format(gates=f"ir: {gate}", config="{gate: ir}")) == ["T205"]


@pytest.mark.parametrize(
    ("clause", "code"),
    [
        ("{field: a, operator: equals}", "T109"),
        ("{field: a, operator: exists, value: 1}", "T113"),
        ("{field: a, operator: near}", "T108"),
        ("{field: 'a b'}", "T108"),
    ],
)
def test_clauses_are_checked(clause, code):
    """M5: `equals` needs a value, the others take none."""
    text = f"ir: {{condition: {{clauses: [{clause}]}}}}"

    assert code in codes(STAGE.format(gates=text, config="{gate: ir}"))


def test_poll_intervals_are_accepted_and_told_once_to_have_no_effect():
    text = (
        "gates:\n  g: {after: a, field: x, poll_interval_seconds: 5}\n"
        "  h: {after: b, field: y, condition: {field: y, poll_interval_seconds: 5}}\n" + LIST
    )

    found = findings_of(text)

    assert [(finding.code, finding.severity) for finding in found] == [("T208", "warning")]
    assert plan_of(text)


@pytest.mark.parametrize("word", ["fail", "skip", "continue"])
def test_on_timeout_has_three_words(word):
    assert (
        gate_of(
            f"gates: {{g: {{after: a, until: facts.x, on_timeout: {word}}}}}\n" + LIST
        ).on_timeout
        == word
    )


def test_on_timeout_may_name_a_stage_which_is_then_no_root():
    plan = plan_of(
        """
        gates: {review: {after: parse, until: facts.ok, timeout: 1s, on_timeout: escalate}}
        stages:
          - {name: parse, type: x}
          - {name: chunk, type: x, depends_on: [parse]}
          - {name: escalate, type: x}
        """
    )

    assert plan.roots == ("parse",)
    assert [(edge.to, edge.kind) for edge in plan.by_path["review"].edges] == [
        ("chunk", "next"),
        ("escalate", "timeout"),
    ]
    gate = plan.by_path["review"].gate
    assert (gate.on_timeout, gate.on_timeout_to) == ("route", "escalate")


@pytest.mark.parametrize("target", ["nope", "a", "g"])
def test_on_timeout_must_lead_forward(target):
    text = f"gates: {{g: {{after: b, until: facts.x, on_timeout: {target}}}}}\n" + LIST

    assert codes(text) == ["T207"]


def test_resume_stage_gets_an_edge_if_nothing_else_leads_to_it():
    plan = plan_of(
        """
        gates: {ir: {field: ready, resume_stage: chunk}}
        stages:
          - {name: download, type: x}
          - {name: wait, type: gate, depends_on: [download], config: {gate: ir}}
          - {name: chunk, type: x}
        """
    )

    assert edges(plan) == {"download": ["wait"], "wait": ["chunk"], "chunk": []}


@pytest.mark.parametrize("target", ["download", "other", "nope"])
def test_resume_stage_must_come_after_the_gate(target):
    text = f"""
    gates: {{ir: {{field: ready, resume_stage: {target}}}}}
    stages:
      - {{name: download, type: x}}
      - {{name: wait, type: gate, depends_on: [download], config: {{gate: ir}}}}
      - {{name: chunk, type: x, depends_on: [wait]}}
      - {{name: other, type: x, depends_on: [download]}}
    """

    assert codes(text) in (["T206"], ["T106"])


def test_a_gate_with_a_stage_of_its_own_has_no_after():
    text = STAGE.format(gates="ir: {field: a, after: download}", config="{gate: ir}")

    assert codes(text) == ["T205"]


def test_a_gate_without_a_condition_is_refused():
    """Nobody could say when it opens."""
    assert codes("gates: {g: {after: a}}\n" + LIST) == ["T202"]


def test_fields_that_gates_read_are_kept_in_the_row():
    plan = plan_of(
        "gates:\n"
        '  g: {after: b, when: "stages.a.pages < 3", until: "stages.b.outputs.done == facts.x"}\n'
        "  h: {after: b, field: stages.a.size, equals: 4}\n" + LIST
    )

    assert plan.by_path["a"].keep == ("pages", "size")
    assert plan.by_path["b"].keep == ("done",)
    assert plan.by_path["h"].gate.clauses == (Clause("stages.a.size", "equals", 4),)
    assert plan.by_path["h"].gate.facts == ()


def test_expressions_of_gates_are_indexed_by_the_facts_they_read():
    gate = gate_of(
        "gates: {g: {after: a, when: metadata.kind == 'x', until: facts.b.c && ledger.d}}\n" + LIST
    )

    assert gate.facts == ("b", "d", "kind")
