"""Which stage follows which, and what travels on each edge."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.topology.inputs import inputs_of
from streams.topology.plan import Plan, Policy
from tests.unit.topology.checking import Types, codes, edges, only, plan_of


def carry(plan):
    return {(part.path, edge.to): edge.carry for part in plan.parts for edge in part.edges}


def test_without_dependencies_stages_run_in_their_order():
    """Document 003."""
    plan = plan_of("stages: [{name: One Thing, echo: x}, {name: two, type: x}, {type: y}]")

    assert edges(plan) == {"one-thing": ["two"], "two": ["y"], "y": []}
    assert plan.linear
    assert plan.by_path["two"].needs == ("one-thing",)


@pytest.mark.parametrize("key", ["depends_on", "depends-on", "needs"])
def test_with_any_dependency_the_list_is_a_graph(key):
    plan = plan_of(
        f"stages: [{{name: a, type: x}}, {{name: b, type: x}}, {{name: c, type: x, {key}: [a, b]}}]"
    )

    assert plan.roots == ("a", "b")
    assert edges(plan) == {"a": ["c"], "b": ["c"], "c": []}
    assert plan.entries == {"a": "topic", "b": "topic", "c": "hold"}


def test_dependencies_may_be_named_by_the_stages_name():
    plan = plan_of(
        "stages: [{name: Wait for System, echo: x}, {name: b, echo: x, depends_on: Wait for System}]"
    )

    assert edges(plan) == {"wait-for-system": ["b"], "b": []}


def test_the_ledger_is_a_dependency_without_an_edge():
    """M18: and by itself it does not make the list a graph."""
    plan = plan_of(
        """
        stages:
          - {name: a, type: x}
          - {name: b, type: x, depends_on: ["@ledger"]}
          - {name: c, type: x, metadata_overrides: {dependencies: ["@ledger", ingest]}}
          - {name: d, type: x, if: facts.ok}
          - {name: e, type: x, config: {k: "${{ metadata.k }}"}}
        """
    )

    assert plan.linear
    assert [part.path for part in plan.parts if part.ledger] == ["b", "c", "d", "e"]


def test_a_type_may_want_the_ledger():
    """M13: its metadata lists `@ledger`."""
    assert plan_of("stages: [{type: example-stage}]", Types()).parts[0].ledger


def test_an_edge_carries_what_something_behind_it_reads():
    """Protocol decision 11: like liveness."""
    plan = plan_of(
        """
        stages:
          - {name: a, type: x}
          - {name: b, type: x, depends_on: [a]}
          - {name: c, type: x, depends_on: [b]}
          - {name: d, type: x, depends_on: [c], with: {}, if: stages.a.ok}
          - {name: e, type: x, depends_on: [c]}
        """
    )

    assert carry(plan) == {
        ("a", "b"): ("a",),
        ("b", "c"): ("a", "b"),
        ("c", "d"): ("a", "c"),
        ("c", "e"): ("c",),
    }


def test_what_is_needed_passes_through_gates_and_echoes():
    plan = plan_of(
        """
        stages:
          - {name: a, type: x}
          - {name: g, type: gate, config: {field: ok}}
          - {name: say, echo: hello}
          - {name: b, type: x}
        """
    )

    assert carry(plan) == {("a", "g"): ("a",), ("g", "say"): ("a",), ("say", "b"): ("a",)}
    assert inputs_of(plan, "b") == ("a",)
    assert inputs_of(plan, "a") == ()


def test_an_edge_before_the_last_reader_carries_nothing_more():
    plan = plan_of("stages: [{name: a, type: x}, {name: b, echo: x}, {name: c, echo: x}]")

    assert set(carry(plan).values()) == {()}


def test_outputs_chosen_at_run_time_make_everything_travel():
    plan = plan_of(
        'stages: [{name: a, type: x}, {name: b, type: x}, {name: c, echo: "${{ stages[params.s] }}"}]'
    )

    assert carry(plan) == {("a", "b"): ("a",), ("b", "c"): ("a", "b")}


def test_an_output_that_is_not_there_yet_cannot_be_read():
    found = only(
        """
        stages:
          - {name: a, type: x}
          - {name: b, type: x, depends_on: [a]}
          - {name: c, type: x, depends_on: [a], if: stages.b.ok}
        """,
        "T125",
    )

    assert found.message == "`b` does not come before `c`"


def test_expressions_name_stages_by_id():
    found = only(
        """
        stages:
          - {name: Parse It, type: x}
          - {name: b, echo: "${{ stages['Parse It'].n }}"}
        """,
        "T106",
    )

    assert found.hint == 'expressions use the id: `stages["parse-it"]`'


@pytest.mark.parametrize(
    ("stage", "code"),
    [
        ("{name: a, echo: '${{ secrets.k }}'}", "T124"),
        ("{name: a, type: x, if: secrets.k == 'x'}", "T124"),
        ("{name: a, type: x, sets: {k: '${{ secrets.k }}'}}", "T124"),
        ("{name: 'a ${{ secrets.k }}', type: x}", "T124"),
        ("{name: a, type: x, config: {k: '${{ secrets[params.x] }}'}}", "T124"),
        ("{name: 'a ${{ item }}', type: x}", "T125"),
        ("{name: a, type: x, if: result.ok}", "T125"),
        ("{name: a, type: x, sets: {k: '${{ stages.a.n }}'}}", "T125"),
        ("{name: a, type: x, config: {deep: [{k: '${{ 1 + }}'}]}}", "X001"),
        ("{name: a, type: x, if: env.HOME == 'x'}", "X002"),
        ("{name: a, type: x, if: 'x ${{ params.x }}'}", "X008"),
    ],
)
def test_names_are_allowed_where_they_have_a_value(stage, code):
    assert codes(f"stages: [{stage}]") == [code]


def test_secrets_are_listed_in_the_plan():
    plan = plan_of(
        "stages: [{name: a, uses: a/b@c, with: {k: '${{ secrets.key }}', o: \"${{ secrets['other'] }}\"}}]"
    )

    assert plan.secrets == ("key", "other")


def test_a_stage_has_all_its_settings_in_the_plan():
    plan = plan_of(
        """
        pipeline: full
        version: 2026-03-01
        metadata: {owner: me, description: d, tags: [x]}
        deadline: 2h
        retention: {jobs: 1d}
        applicable_sources: [web]
        policies: {mine: {max_attempts: 4, timeout: 10s, backoff: {strategy: linear, initial: 1, maximum: 9}}}
        plugins: {stages: [{callable: "my_package.plugins:register"}]}
        stages:
          - id: a
            name: A ${{ params.x }}
            type: x
            desc: what
            if: true
            policy: mine
            retry: 2
            timeout: 1m
            pool: gpu
            concurrency: 2
            batch: {max_items: 8, max_wait: 20ms}
            config: {k: v}
            sets: {approved: "${{ result.ok }}"}
            metadata_overrides: {state_key: s}
            extras: {any: thing}
          - {name: Rest, sleep: 3s, echo: later}
          - {name: rest2, sleep: "${{ params.n }}"}
          - {name: stop, raise: "no ${{ params.x }}"}
          - {name: polite, type: x, policy: polite-api}
        """
    )
    a, rest, rest2, stop, polite = plan.parts

    assert (plan.version, plan.owner, plan.tags) == ("2026-03-01", "me", ("x",))
    assert (plan.deadline_ms, plan.retention_ms) == (7_200_000, 86_400_000)
    assert plan.plugins == ("my_package.plugins:register",)
    assert plan.policies["mine"].max_attempts == 4
    assert (a.name, a.condition, a.pool, a.concurrency) == ("A ${{ params.x }}", "true", "gpu", 2)
    assert a.retry == Policy(3, 60.0, plan.policies["mine"].backoff)
    assert (a.batch.max_items, a.batch.max_wait) == (8, 0.02)
    assert a.overrides == {"state_key": "s"}
    assert (rest.path, rest.kind, rest.sleep_ms, rest.echo) == ("rest", "sleep", 3000, "later")
    assert rest2.sleep == "params.n"
    assert (stop.kind, stop.message) == ("raise", "no ${{ params.x }}")
    assert (polite.policy, polite.retry) == ("polite-io", None)
    assert Plan.decode(plan.encoded) == plan


def test_the_file_name_is_the_pipelines_name():
    assert plan_of("stages: [{echo: x}]", name="some/My Pipe.yaml").pipeline == "my-pipe"


def test_document_001_names_the_pipeline_by_name():
    assert plan_of("name: p\nstages: [{echo: x}]").pipeline == "p"


def shuffled(value, order):
    if isinstance(value, dict):
        keys = list(value)
        order.shuffle(keys)
        return {key: shuffled(value[key], order) for key in keys}
    return [shuffled(item, order) for item in value] if isinstance(value, list) else value


@st.composite
def topologies(draw):
    count = draw(st.integers(1, 12))
    stages = []
    for n in range(count):
        before = [f"s{m}" for m in range(n)]
        stage = {
            "name": f"s{n}",
            "depends_on": draw(st.lists(st.sampled_from(before), unique=True, max_size=3))
            if before
            else [],
        }
        kind = draw(st.sampled_from(["type", "echo", "sleep", "uses"]))
        stage[kind] = {"type": "x", "echo": "hi", "sleep": 2, "uses": "a/b@c"}[kind]
        stages.append(stage)
    gates = {
        f"g{n}": {
            "after": f"s{draw(st.integers(0, count - 1))}",
            "until": f"facts.f{n}",
            "timeout": "3s",
        }
        for n in range(draw(st.integers(0, 3)))
    }
    params = {f"p{n}": {"type": "integer", "default": n} for n in range(3)}
    return {"pipeline": "p", "version": 1, "params": params, "gates": gates, "stages": stages}


@settings(max_examples=60, deadline=None)
@given(topologies(), st.integers(0, 1000))
def test_the_digest_does_not_depend_on_the_order_of_keys(topology, seed):
    """Equal plans have equal digests, and a plan survives its own text."""
    plan = plan_of(json.dumps(topology))
    again = plan_of(json.dumps(shuffled(topology, random.Random(seed))))

    assert plan.digest == again.digest
    assert Plan.decode(plan.encoded) == plan
    assert Plan.decode(plan.encoded).digest == plan.digest


@settings(max_examples=60, deadline=None)
@given(topologies())
def test_every_edge_carries_what_its_target_needs_and_only_what_has_run(topology):
    plan = plan_of(json.dumps(topology))
    rank = {path: n for n, path in enumerate(plan.order)}

    for part in plan.parts:
        for edge in part.edges:
            assert all(rank[source] <= rank[part.path] for source in edge.carry)
            target = plan.by_path[edge.to]
            if target.kind in ("stage", "uses") and part.kind in ("stage", "uses"):
                assert part.path in edge.carry
