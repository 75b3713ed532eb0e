"""Secrets are found by name and never shown."""

import base64
import pickle
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import UserError
from streams.secrets import EXPLANATIONS, Secrets

VALUE = "hunter2/&é top"


def test_a_secret_comes_from_its_variable():
    secrets = Secrets.load({"STREAMS_SECRET_API_KEY": "abcd1234", "HOME": "/root"})
    assert secrets.value("api-key") == "abcd1234"
    assert secrets.names() == ("api_key",)


def test_a_mounted_file_wins_over_the_variable(tmp_path):
    """Clusters rotate secrets by replacing the file."""
    (tmp_path / "api_key").write_text("from-file\n")
    (tmp_path / "..data").write_text("bookkeeping of the volume")
    secrets = Secrets.load({"STREAMS_SECRET_API_KEY": "from-variable"}, tmp_path)
    assert secrets.value("api_key") == "from-file"
    assert len(secrets) == 1


def test_a_missing_secret_names_how_to_set_it():
    with pytest.raises(UserError) as caught:
        Secrets({}).value("api-key")
    assert caught.value.code == "C001"
    assert caught.value.code in EXPLANATIONS
    assert "STREAMS_SECRET_API_KEY" in caught.value.help


def test_missing_secrets_are_listed_for_the_check_before_start():
    assert Secrets({"a": "1"}).missing(["a", "b", "c-d"]) == ["b", "c-d"]


def test_only_the_names_of_a_plan_are_handed_out():
    assert Secrets({"a": "1", "b": "2"}).only(["b"]) == {"b": "2"}


def test_a_file_that_is_no_text_is_refused_without_quoting_it(tmp_path):
    (tmp_path / "key").write_bytes(b"\xff\xfe-private-")
    with pytest.raises(UserError, match="'key' cannot be read") as caught:
        Secrets.load({}, tmp_path)
    assert caught.value.code == "C003"
    assert "private" not in str(caught.value)


def test_nothing_shows_a_value():
    secrets = Secrets({"token": VALUE})
    assert VALUE not in f"{secrets!r} {secrets}"
    with pytest.raises(TypeError):
        pickle.dumps(secrets)


@pytest.mark.parametrize(
    "form",
    [
        VALUE,
        base64.b64encode(VALUE.encode()).decode(),
        base64.urlsafe_b64encode(VALUE.encode()).decode().rstrip("="),
        quote(VALUE, safe=""),
        quote(VALUE, safe="").lower(),
        repr({"token": VALUE}),
        '{"token": "hunter2/&\\u00e9 top"}',
    ],
)
def test_each_form_of_a_value_is_redacted(form):
    """K2: base64 and percent forms too."""
    text = Secrets({"token": VALUE}).redact(f"before {form} after")
    assert "hunter2" not in text
    assert "***" in text
    assert form not in text
    assert text.startswith("before ")
    assert text.endswith(" after")


@pytest.mark.parametrize("user", ["a", "ab", "abc", "user@host"])
def test_a_password_inside_an_authorization_header_is_redacted(user):
    """The header's base64 begins with the user, so the password is nowhere on a border of three."""
    header = base64.b64encode(f"{user}:correct-horse".encode()).decode()
    text = Secrets({"password": "correct-horse"}).redact(f"Authorization: Basic {header}")
    left = text.rsplit(" ", 1)[1].split("***")
    assert b"correct" not in base64.b64decode(left[0] + "=" * (-len(left[0]) % 4))
    assert "***" in text


def test_short_values_are_not_searched_for():
    """They would turn up everywhere."""
    assert Secrets({"pin": "abc"}).redact("abcabc") == "abcabc"


def test_a_longer_secret_is_redacted_before_the_one_it_begins_with():
    assert Secrets({"a": "pass", "b": "password"}).redact("password!") == "***!"


def test_a_value_in_data_is_found_by_name():
    secrets = Secrets({"token": "line one\nline two"})
    assert secrets.found_in(b'{"x":"line one\\nline two"}') == "token"
    assert secrets.found_in(b'{"x":"line one"}') is None


@given(st.text(min_size=4), st.text(), st.text())
def test_no_text_keeps_a_value(value, before, after):
    redacted = Secrets({"s": value}).redact(before + value + after)
    assert value not in redacted or value in f"{before}***{after}" or value in "***"
