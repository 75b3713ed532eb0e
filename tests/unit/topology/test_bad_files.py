"""Reliability §4, family Y: files that must be refused, with a place and a hint."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.errors import UserError
from streams.topology.check import check_text
from streams.topology.findings import TopologyError
from streams.topology.load import load_file, load_files, plugin_callables, read_files
from streams.topology.model import GateModel, StageModel, TopologyModel
from tests.unit.topology.checking import Types, codes, findings_of, only, plan_of

ECHO = "stages: [{name: a, echo: hi}]\n"


def test_an_anchor_bomb_is_refused_at_once():
    """Y1: 9^9 aliases must cost nothing."""
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{','.join(['*' + before] * 9)}]")
    begin = time.thread_time()

    found = only("\n".join(lines), "T103")

    assert time.thread_time() - begin < 1
    assert found.line == 6


def test_a_duplicate_key_names_both_lines():
    """Y2."""
    found = only("stages:\n  - {name: a, echo: hi}\npipeline: p\nstages: []\n", "T102")

    assert (found.line, found.column) == (4, 1)
    assert found.hint == "first at line 1"


@pytest.mark.parametrize(
    ("written", "meant"), [("depend_on", "depends_on"), ("concurency", "concurrency")]
)
def test_a_misspelt_field_is_told_with_the_right_one(written, meant):
    """Y3."""
    found = only(f"stages:\n  - name: parse\n    type: parse\n    {written}: 4\n", "T104")

    assert found.message == f"unknown field `{written}` in stage `parse`"
    assert found.hint == f"did you mean `{meant}`?"
    assert (found.line, found.column, found.length) == (4, 5, len(written))


def test_a_misspelt_gate_field_is_told():
    """Y3: `timout_seconds`."""
    found = only("gates: {g: {after: a, until: facts.x, timout_seconds: 3}}\n" + ECHO, "T104")

    assert found.hint == "did you mean `timeout_seconds`?"


def test_a_circle_is_printed_as_a_path():
    """Y4."""
    found = only(
        """
        stages:
          - {name: a, echo: x, depends_on: [c]}
          - {name: b, echo: x, depends_on: [a]}
          - {name: c, echo: x, depends_on: [b]}
        """,
        "T114",
    )

    assert found.message == "stages wait for each other: a > b > c > a"


def test_a_stage_that_depends_on_itself_is_refused():
    """Y4."""
    assert codes("stages: [{name: a, echo: x, depends_on: a}]") == ["T114"]


def test_an_unknown_dependency_is_told_with_the_nearest_stage():
    """Y5."""
    found = only(
        "stages: [{name: parse, echo: x}, {name: b, echo: x, depends_on: [prase]}]", "T106"
    )

    assert found.hint == "did you mean `parse`?"


@pytest.mark.parametrize("second", ["parse", "Parse", "PARSE"])
def test_ids_are_unique_ignoring_case(second):
    """Y5: topics of some file systems and people's eyes ignore case."""
    found = only(f"stages:\n  - {{id: parse, echo: x}}\n  - {{id: {second}, echo: x}}\n", "T111")

    assert found.line == 3
    assert found.hint.startswith("first at line 2")


def test_a_gate_that_nothing_uses_is_refused():
    """Y6."""
    assert codes("gates: {g: {until: facts.x}}\n" + ECHO) == ["T204"]


def test_a_gate_on_a_later_stage_is_refused():
    """Y6: the output can never be there while the gate waits."""
    found = only(
        """
        gates: {g: {after: a, until: stages.b.ok}}
        stages: [{name: a, type: x}, {name: b, type: x}]
        """,
        "T201",
    )

    assert found.message == "gate `g` reads `b`, which does not come before it"


def test_an_undefined_gate_is_refused():
    """Y6."""
    found = only("stages: [{name: w, type: gate, config: {gate: nope}}]", "T203")

    assert found.message == "no gate `nope` under `gates:`"


@pytest.mark.parametrize("until", ["true", "1 == 1", "params.x == 1", "data.ok"])
def test_a_gate_nobody_can_open_is_refused(until):
    """Y6: what it reads never changes while it waits."""
    assert codes(f"gates: {{g: {{after: a, until: {until!r}}}}}\n" + ECHO) == ["T202"]


@pytest.mark.parametrize(
    "timeout",
    ["0s", "-1s", "1e308", ".nan", "1_0", "'12:30:45'", "12:30:45", "10 parsecs", "30", "1000000d"],
)
def test_a_timeout_that_is_no_duration_is_refused_with_its_units(timeout):
    """Y7."""
    found = findings_of(f"stages: [{{name: a, type: x, timeout: {timeout}}}]")

    assert found[0].code in ("T116", "T117")
    assert "500ms" in found[-1].hint


@pytest.mark.parametrize("seconds", ["0", "-1", "1e308", "1_0", "12:30:45", "true"])
def test_seconds_out_of_range_are_refused(seconds):
    """Y7, in fields whose name ends in `_seconds`."""
    text = f"gates: {{g: {{after: a, until: facts.x, timeout_seconds: {seconds}}}}}\n" + ECHO

    assert codes(text) == ["T116"]


@pytest.mark.parametrize("word", ["on", "no", "010", "y"])
def test_words_that_older_yaml_changes_stay_text(word):
    """Y8."""
    assert plan_of(f"pipeline: {word}\n{ECHO}").pipeline == word


@pytest.mark.parametrize("version", ["1.10", "010", "0", "on", "2026-13-01", "-3", "true"])
def test_versions_are_whole_numbers_or_dates(version):
    """Y8: 1.10 would silently be 1.1."""
    assert codes(f"version: {version}\n{ECHO}") == ["T108"]


@pytest.mark.parametrize("version", ["3", "2026-03-01", "2026-03-01-rc1"])
def test_versions_are_kept_as_written(version):
    assert plan_of(f"version: {version}\n{ECHO}").version == version


def test_a_tag_is_refused_and_nothing_is_run():
    """Y9."""
    found = only("stages: !!python/object/apply:os.system ['touch x']\n", "T103")

    assert (found.line, found.column) == (1, 9)


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("a: " + "[" * 10_000, "T103", 1),
        ("a: 1\n---\nb: 2\n", "T101", 2),
        ("stages:\n\t- a\n", "T101", 2),
        ('stages: "open\n', "T101", 2),
        ("stages: [\x01]\n", "T101", 0),
    ],
)
def test_broken_yaml_is_refused_with_its_place(text, code, line):
    """Y10."""
    found = findings_of(text)

    assert [(finding.code, finding.line) for finding in found] == [(code, line)]


def test_a_byte_order_mark_is_no_fault():
    """Y10."""
    assert plan_of("\ufeff" + ECHO).pipeline == "demo"


def test_a_huge_file_is_refused_unread(tmp_path):
    """Y10."""
    path = tmp_path / "big.yaml"
    path.write_bytes(b"#" * 5_000_000)

    with pytest.raises(TopologyError) as caught:
        load_file(path)

    assert [finding.code for finding in caught.value.findings] == ["T119"]


def test_latin_1_is_refused_with_its_place(tmp_path):
    """Y10."""
    path = tmp_path / "latin.yaml"
    path.write_bytes("pipeline: p\n# caf\xe9\n".encode("latin-1"))

    with pytest.raises(TopologyError) as caught:
        load_file(path)

    found = caught.value.findings[0]
    assert (found.code, found.line, found.column) == ("T119", 2, 6)


@pytest.mark.parametrize("text", ["<<: &a {x: *a}\n", "a: &a [*a]\n", "a: &a {<<: *a}\n"])
def test_merge_keys_and_circles_of_aliases_are_refused(text):
    """Y11."""
    assert codes(text + ECHO) == ["T103"]


def test_an_unknown_stage_type_is_told_with_the_nearest():
    """Y12, as far as the registry goes."""
    found = only("stages: [{name: a, type: pasre}]", "T105", Types())

    assert found.hint == "did you mean `parse`?"


@pytest.mark.parametrize("target", ["../x:y", "os", "os:", "a b:c", "os:system()"])
def test_a_plugin_must_be_named_by_module_and_name(target):
    """Y12."""
    assert codes(f"plugins: {{stages: [{{callable: '{target}'}}]}}\n{ECHO}") == ["T123"]


@pytest.mark.parametrize("name", ["intake", "Ledger", "dead"])
def test_a_stage_cannot_take_an_internal_topic(name):
    """Y13."""
    assert codes(f"stages: [{{name: {name}, echo: x}}]") == ["T110"]


@pytest.mark.parametrize(
    "text", ["id: ..", "id: a/b", f"id: {'x' * 300}", f"name: {'x' * 300}", "name: '---'"]
)
def test_ids_that_cannot_be_topics_are_refused(text):
    """Y13."""
    assert codes(f"stages: [{{{text}, echo: x}}]") == ["T110"]


@pytest.mark.parametrize(
    "text",
    [
        "policies: {p: {max_attempts: 1000000000}}",
        "policies: {p: {max_attempts: 0}}",
        "policies: {p: {backoff: {initial: -1}}}",
        "policies: {p: {backoff: {initial: 5, maximum: 1}}}",
    ],
)
def test_policies_out_of_bounds_are_refused(text):
    """Y14."""
    assert codes(f"{text}\n{ECHO}") == ["T117"]


def test_a_stage_may_retry_19_times_at_most():
    """Y14 and D21."""
    assert codes("stages: [{name: a, type: x, retry: 20}]") == ["T117"]


@pytest.mark.parametrize("key", ["circuit_breaker", "rate_limit"])
def test_breakers_and_rate_limits_are_refused_until_they_are_there(key):
    """Y14: never accepted in silence."""
    assert codes(f"policies: {{p: {{{key}: {{a: 0}}}}}}\n{ECHO}") == ["T150"]


@pytest.mark.parametrize(
    "text",
    [
        "kafka: {a: 1}\n" + ECHO,
        "bootstrap.servers: x\n" + ECHO,
        "stages: [{name: a, type: x, config: {sasl.jaas.config: x}}]",
        "stages: [{name: a, type: x, config: {url: 'x?sasl_plaintext'}}]",
    ],
)
def test_broker_settings_are_refused(text):
    """Y15."""
    assert codes(text) == ["T118"]


def test_all_faults_come_at_once_in_the_order_of_the_file():
    """Conventions §4: not the first one only."""
    found = findings_of(
        """
        foo: 1
        stages:
          - {name: parse, type: parse, retry: 99, timeout: 10 parsecs}
          - {name: c, echo: hi, depends_on: [zz, parse, parse], if: "${{ params.x = 1 }}"}
          - {name: g, tipe: x}
          - {name: f, uses: abc, policy: nope}
        """
    )

    assert [finding.code for finding in found] == [
        "T104", "T117", "T116", "T106", "T115", "X001", "T104", "T120", "T122",
    ]  # fmt: skip


def test_faults_of_several_files_come_together(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text("stages: [{name: x}]\n")

    with pytest.raises(TopologyError) as caught:
        load_files([tmp_path / "a.yaml", tmp_path / "b.yaml", tmp_path / "c.yaml"])

    assert [finding.code for finding in caught.value.findings] == ["T112", "T112", "T119"]
    assert isinstance(caught.value, UserError)


def test_two_files_cannot_be_the_same_version_of_a_pipeline(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text("pipeline: p\n" + ECHO)

    with pytest.raises(TopologyError) as caught:
        load_files(sorted(tmp_path.glob("*.yaml")))

    assert caught.value.code == "T111"


def test_the_error_is_shown_as_the_conventions_say():
    """Conventions §4: sentence, place, line, caret, hint."""
    text = "stages:\n  - name: parse\n    type: parse\n    concurency: 4\n"

    assert only(text, "T104").render().splitlines()[:4] == [
        "error[T104]: unknown field `concurency` in stage `parse`",
        "  --> demo.yaml:4:5",
        "   | 4 |     concurency: 4",
        "   |         ^^^^^^^^^^ did you mean `concurrency`?",
    ]


def test_a_very_long_line_is_shown_around_its_place():
    found = only("stages: [{name: a, echo: '" + "x" * 500 + "', retri: 1}]", "T104")

    shown = found.render().splitlines()

    assert len(shown[2]) < 120
    assert "retri" in shown[2]
    assert shown[2].index("retri") == shown[3].index("^^^^^")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "T109"),
        ("- {name: a, echo: x}", "T108"),
        ("just text", "T108"),
        ("pipeline: p\n", "T109"),
        ("stages: []", "T117"),
        ("stages:\n", "T108"),
        ("stages: {a: 1}", "T108"),
        ("stages: [{name: a}]", "T112"),
        ("stages: [{name: a, echo: x, uses: a/b@c}]", "T113"),
        ("stages: [{name: a, type: chunk, echo: x}]", "T113"),
        ("stages: [{name: a, type: raise}]", "T109"),
        ("stages: [{name: a, type: x, with: {a: 1}}]", "T113"),
        ("stages: [{name: a, uses: a/b@c, config: {a: 1}}]", "T113"),
        ("stages: [{name: a, sleep: 1801}]", "T117"),
        ("stages: [{name: a, sleep: [1]}]", "T116"),
        ("stages: [{name: a, uses: nope}]", "T120"),
        ("stages: [{name: a, type: x, policy: nope}]", "T122"),
        ("stages: [{name: a, type: x, max-items: 3}]", "T104"),
        ("stages: [{name: 7, echo: x}]", "T108"),
        ("gates: [{until: facts.x}]\nstages: [{name: a, echo: x}]", "T109"),
        ("stages: [{name: a, echo: x, depends-on: [], depends_on: []}]", "T102"),
    ],
)
def test_other_faults_have_one_clear_finding(text, code):
    assert code in codes(text)


def test_functions_and_their_arguments_are_checked_by_the_registry():
    assert codes("stages: [{name: a, uses: notifications/sned@v1}]", Types()) == ["T121"]
    assert codes("stages: [{name: a, uses: tasks/clean@v2, with: {wrong: 1}}]", Types()) == ["T130"]
    assert codes("stages: [{name: a, uses: tasks/clean@latest}]", Types()) == []


def test_a_refused_config_is_shown_at_its_key():
    found = only("stages:\n  - {name: a, type: parse, config: {deep: 1}}\n", "T130", Types())

    assert (found.line, found.column) == (2, 37)


def test_plugins_are_listed_even_in_a_file_with_faults(tmp_path):
    """They have to be loaded before the file can be checked."""
    path = tmp_path / "p.yaml"
    path.write_text("plugins: {stages: [{callable: 'a.b:c'}, {callable: 'a.b:c'}]}\nfoo: 1\n")

    assert plugin_callables([path, tmp_path / "none.yaml"]) == ["a.b:c"]


def test_a_file_that_was_read_is_loaded_as_it_was_read(tmp_path):
    """A large file takes longer to read than to check: once is enough for its registrations and
    its plan, and both are of the same file if somebody changes it meanwhile."""
    path = tmp_path / "a.yaml"
    path.write_text("plugins: {stages: [{callable: 'a.b:c'}]}\nstages: [{name: s, echo: hi}]\n")
    files = read_files([path, tmp_path / "none.yaml"])
    path.unlink()

    assert plugin_callables(files) == ["a.b:c"]
    assert [part.path for part in load_files(files[:1])[0].plan.parts] == ["s"]
    with pytest.raises(TopologyError) as caught:
        load_files(files[1:])
    assert [finding.code for finding in caught.value.findings] == ["T119"]


def test_a_file_of_200_stages_is_checked_within_a_second():
    stages = "".join(
        f"  - name: s{n}\n    type: x\n    depends_on: [s{n - 1}]\n"
        f"    if: ${{{{ stages.s{n - 1}.ok == {n} }}}}\n    config: {{a: 1, b: [1, 2, 3]}}\n"
        for n in range(1, 200)
    )
    begin = time.thread_time()

    plan_of("stages:\n  - {name: s0, type: x}\n" + stages)

    assert time.thread_time() - begin < 1


WHOLE = """pipeline: p
gates: {g: {after: a, until: facts.x, timeout: 3s}, h: {field: z}}
params: {x: {type: integer, default: 1}}
policies: {q: {max_attempts: 2, backoff: {initial: 1}}}
stages:
  - {name: a, type: t, config: {k: "${{ params.x }}"}, policy: q}
  - {name: w, type: gate, config: {gate: h}}
  - {name: b, uses: a/b@c, with: {m: "x ${{ stages.a.n }}"}, if: params.x > 1}
"""
PIECES = [*" :{}[]-\n'\"#&*!|>%@`~\t,?0é", "null", "true", "3", "[1]", "{}", "${{", "}}", "\x00"]
EDITS = st.lists(
    st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 9), st.sampled_from(PIECES)), max_size=5
)


@settings(max_examples=300, deadline=None)
@given(EDITS)
def test_a_damaged_file_gives_a_plan_or_faults_and_never_an_exception(edits):
    """Reliability §4: byte-level changes of valid YAML; uncaught exceptions 0."""
    text = WHOLE
    for at, length, piece in edits:
        text = text[:at] + piece + text[at + length :]

    plan, findings = check_text(text, "f.yaml")

    assert (plan is None) == any(finding.severity == "error" for finding in findings)


VALUES = ["null", "3", "1.5", "true", "[]", "{}", "[1]", "{a: 1}", "''", "'${{'", "[null]", "-1"]


@pytest.mark.parametrize("value", VALUES)
def test_any_value_at_any_field_gives_a_plan_or_faults(value):
    """Whatever stands at a field, the answer is a finding and no exception."""
    texts = [
        *(f"{field}: {value}\nstages: [{{echo: x}}]" for field in TopologyModel.spellings()[:-1]),
        *(f"stages: [{{type: gate, {field}: {value}}}]" for field in StageModel.spellings()),
        *(f"stages: [{{type: x, {field}: {value}}}]" for field in StageModel.spellings()),
        *(f"stages: [{{{field}: {value}}}]" for field in StageModel.spellings()),
        *(
            f"gates: {{g: {{{field}: {value}}}}}\n"
            f"stages: [{{echo: x}}, {{type: gate, config: {{{field}: {value}, gate: g}}}}]"
            for field in GateModel.spellings()
        ),
    ]

    for text in texts:
        plan, findings = check_text(text, "f.yaml")
        assert (plan is None) == any(finding.severity == "error" for finding in findings), text
