"""How times and values are written for people and read from them."""

import pytest
import typer

from streams.cli.wording import assignments, compact, guess, milliseconds, moment, span


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (-5, "0ms"),
        (40, "40ms"),
        (1340, "1.3s"),
        (42_000, "42s"),
        (180_000, "3m"),
        (185_000, "3m 5s"),
        (7_380_000, "2h 3m"),
        (248_400_000, "2d 21h"),
        (259_200_000, "3d"),
    ],
)
def test_a_span_shows_its_two_largest_units(ms, text):
    assert span(ms) == text


def test_a_moment_is_in_utc_so_that_two_people_see_the_same():
    assert moment(1_800_000_000_000) == "2027-01-15 08:00:00Z"
    assert moment(None) == "-"


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("500ms", 500),
        ("90s", 90_000),
        ("1h30m", 5_400_000),
        ("1.5h", 5_400_000),
        ("3d", 259_200_000),
    ],
)
def test_a_length_of_time_is_read_with_its_unit(text, ms):
    assert milliseconds(text, flag="--deadline") == ms


@pytest.mark.parametrize("text", ["", "10", "10 parsecs", "h", "2h and more", "-3s"])
def test_a_length_of_time_without_a_unit_is_refused(text):
    """Y7: `10` may be seconds or minutes; guessing would be wrong half the time."""
    with pytest.raises(typer.BadParameter, match="no length of time"):
        milliseconds(text, flag="--deadline")


def test_values_keep_the_type_that_their_text_has_in_json():
    assert [guess(t) for t in ("true", "3", "[1]", '"3"', "plain text", "NaN", "")] == [
        True,
        3,
        [1],
        "3",
        "plain text",
        "NaN",
        "",
    ]


def test_a_value_may_hold_an_equals_sign():
    assert assignments(["url=http://x/?a=b"], flag="--param") == {"url": "http://x/?a=b"}


@pytest.mark.parametrize("pairs", [["novalue"], ["=x"], ["a=1", "a=2"]])
def test_a_pair_without_a_name_or_given_twice_is_refused(pairs):
    with pytest.raises(typer.BadParameter):
        assignments(pairs, flag="--param")


def test_long_values_are_cut_where_a_line_would_end():
    assert compact("x" * 100, 10) == '"xxxxxxxx…'
