"""Parameters: types, defaults, choices (D32), and what a submission may give."""

import pytest

from streams.errors import UserError
from streams.topology.params import bind_params
from tests.unit.topology.checking import codes, only, plan_of

STAGES = "\nstages: [{name: a, type: x}]"


def bound(declared, given):
    return bind_params(plan_of(f"params: {declared}{STAGES}"), given)


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("string", "3", "3"),
        ("string", 3, "3"),
        ("integer", "3", 3),
        ("int", 3, 3),
        ("number", "1.5", 1.5),
        ("float", 2, 2),
        ("decimal", "1.10", "1.10"),
        ("decimal", 1.5, "1.5"),
        ("boolean", "TRUE", True),
        ("bool", False, False),
        ("date", "2026-03-01", "2026-03-01"),
        ("datetime", "2026-03-01T12:30:00+00:00", "2026-03-01T12:30:00+00:00"),
        ("list", "[1, 2]", [1, 2]),
        ("array", ["a"], ["a"]),
        ("map", '{"a": 1}', {"a": 1}),
        ("dict", {}, {}),
    ],
)
def test_text_is_read_as_the_declared_type(kind, given, expected):
    assert bound(f"{{x: {kind}}}", {"x": given}) == {"x": expected}


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("integer", "3.5"),
        ("integer", True),
        ("integer", "9" * 30),
        ("number", "nan"),
        ("number", "1e308"),
        ("decimal", "inf"),
        ("boolean", "yes"),
        ("boolean", 1),
        ("date", "2026-13-01"),
        ("datetime", "yesterday"),
        ("list", '{"a": 1}'),
        ("map", "[1]"),
        ("map", "{broken"),
        ("string", [1]),
    ],
)
def test_what_does_not_fit_is_refused(kind, given):
    with pytest.raises(UserError) as caught:
        bound(f"{{x: {kind}}}", {"x": given})

    assert caught.value.code == "P003"


def test_defaults_are_used_and_the_first_choice_is_one():
    """W29: a default counts when the key is absent."""
    declared = "{a: {type: integer, default: 3}, c: {type: choice, choices: [x, y]}, n: string}"

    assert bound(declared, {}) == {"a": 3, "c": "x", "n": None}
    assert bound(declared, {"c": "y"})["c"] == "y"


def test_all_faults_of_a_submission_come_together():
    declared = "{need: {required: true}, c: {type: choice, options: [x]}, i: integer}"

    with pytest.raises(UserError) as caught:
        bound(declared, {"c": "z", "i": "q", "extra": 1})

    for name in (
        "`need` is required",
        "`c`: `z` is none of x",
        "`i` is not",
        "`extra` is no parameter",
    ):
        assert name in caught.value.message


def test_a_file_that_declares_none_takes_any():
    """Document 003."""
    assert bind_params(plan_of("stages: [{name: a, type: x}]"), {"any": [1]}) == {"any": [1]}


@pytest.mark.parametrize(
    ("declared", "code"),
    [
        ("{x: {type: integer, default: three}}", "T126"),
        ("{x: {type: choice}}", "T109"),
        ("{x: {type: choice, choices: [a], default: b}}", "T126"),
        ("{x: {type: money}}", "T108"),
        ("{a-b: string}", "T110"),
        ("{x: 3}", "T108"),
    ],
)
def test_declarations_are_checked(declared, code):
    assert codes(f"params: {declared}{STAGES}") == [code]


def test_an_undeclared_parameter_is_refused_where_it_is_read():
    found = only(
        "params: {notify: boolean}\nstages: [{name: a, echo: x, if: params.notfy}]", "T107"
    )

    assert found.hint == "did you mean `notify`?"
