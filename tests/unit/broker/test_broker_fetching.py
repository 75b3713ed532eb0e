"""How the jars come: by a tool that is there, whole and verified, or not at all."""

import hashlib
import sys

import pytest

from streams.broker.devbroker import fetching, jars
from streams.broker.devbroker.jars import Jar
from streams.broker.devbroker.java import Java
from streams.errors import LogError


@pytest.fixture
def java(tmp_path):
    return Java(tmp_path / "jre" / "bin" / "java", 17, "17", "PATH")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def _without_jgo(monkeypatch):
    """Whether or not this environment has the extra."""
    monkeypatch.setitem(sys.modules, "jgo", None)


@pytest.fixture
def maven(tmp_path):
    """Puts a `mvn` of these shell lines on a PATH of its own; gives the environment."""

    def install(*lines):
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "mvn").write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
        (folder / "mvn").chmod(0o755)
        return {"PATH": str(folder)}

    return install


JGO = {
    "__init__.py": "",
    "config.py": """
class GlobalSettings:
    repositories = REPOSITORIES

    @classmethod
    def load(cls):
        return cls
""",
    "maven.py": """
class MavenContext:
    def __init__(self, repo_cache):
        self.cache, self.remote_repos = repo_cache, {"default": "there"}

    def project(self, group, artifact):
        self.name = artifact
        return self

    def at_version(self, version):
        self.version = version
        return self

    def artifact(self):
        return self

    def resolve(self):
        if "broken" in self.remote_repos:
            raise RuntimeError(f"not found in {self.remote_repos}")
        self.cache.mkdir(exist_ok=True)
        (self.cache / self.name).write_text(self.version)
        return self.cache / self.name
""",
}
"""As much of jgo as is used; what a jar holds is its version."""


@pytest.fixture
def jgo(tmp_path, monkeypatch):
    """Installs the stand-in with these repositories in its settings."""

    def install(**repositories):
        package = tmp_path / "site" / "jgo"
        package.mkdir(parents=True)
        for name, text in JGO.items():
            (package / name).write_text(text.replace("REPOSITORIES", repr(repositories)))
        monkeypatch.delitem(sys.modules, "jgo")
        monkeypatch.syspath_prepend(package.parent)

    yield install
    for name in ("jgo", "jgo.config", "jgo.maven"):
        sys.modules.pop(name, None)


class TestCacheFolder:
    def test_it_is_where_the_user_keeps_caches(self):
        assert str(fetching.cache_folder({"XDG_CACHE_HOME": "/c"})) == "/c/interlock-streams"

    @pytest.mark.parametrize("environment", [{}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "c"}])
    def test_without_a_usable_word_it_is_below_the_home(self, environment, monkeypatch):
        """The specification: a relative path is to be ignored."""
        monkeypatch.setenv("HOME", "/home/me")

        folder = fetching.cache_folder(environment)

        assert str(folder) == "/home/me/.cache/interlock-streams"


def test_without_a_tool_the_answer_names_the_folder_and_the_extra(cache, java):
    """An air-gapped machine fills the folder by hand."""
    with pytest.raises(LogError) as refused:
        fetching.jars_ready(cache, java, {"PATH": ""}, print)

    assert refused.value.code == "N002"
    assert str(cache / "kafka-4.1.1") in refused.value.message
    assert "interlock-streams[broker]" in refused.value.help


def test_a_tool_that_fails_is_quoted_and_nothing_is_kept(cache, java, maven):
    """The last lines say why: no network, a mirror, a proxy."""
    environment = maven("echo '[ERROR] no route to anywhere'", "exit 1")
    said = []

    with pytest.raises(LogError) as refused:
        fetching.jars_ready(cache, java, environment, said.append)

    assert refused.value.code == "N003"
    assert "[ERROR] no route to anywhere" in refused.value.message
    assert said == ["fetching Kafka 4.1.1 with Maven: 46 jars, 43 MB, only once"]
    assert [path.name for path in cache.iterdir()] == ["lock"]


def test_what_comes_is_verified_before_it_is_kept(cache, java, maven):
    """A mirror that changes files must not fill the cache."""
    environment = maven('for last; do :; done; echo x > "${last#*=}/kafka-clients-4.1.1.jar"')

    with pytest.raises(LogError) as refused:
        fetching.jars_ready(cache, java, environment, lambda _: None)

    assert refused.value.code == "N004"
    assert "kafka-clients-4.1.1.jar: sha256 is " in refused.value.message
    assert [path.name for path in cache.iterdir()] == ["lock"]


class TestWhatIsFetched:
    """Two jars stand for the 46."""

    WANTED = (
        Jar("org.one", "one", "1", hashlib.sha256(b"1").hexdigest()),
        Jar("org.two", "two", "2", hashlib.sha256(b"2").hexdigest()),
    )
    COPY = (
        'for last; do :; done; printf 1 > "${last#*=}/one-1.jar"; printf 2 > "${last#*=}/two-2.jar"'
    )

    def test_by_maven_it_is_there_and_fetched_once(self, cache, java, maven):
        environment = maven(self.COPY)
        said = []

        folder = fetching.jars_ready(cache, java, environment, said.append, self.WANTED)
        again = fetching.jars_ready(cache, java, {"PATH": ""}, said.append, self.WANTED)

        assert again == folder == cache / "kafka-4.1.1"
        assert sorted(path.name for path in folder.iterdir()) == ["one-1.jar", "two-2.jar"]
        assert said == ["fetching Kafka 4.1.1 with Maven: 2 jars, 43 MB, only once"]

    def test_where_maven_fails_jgo_is_tried(self, cache, java, maven, jgo):
        """A Maven that nobody ever set up for the network here."""
        environment = maven("exit 1")
        jgo()
        said = []

        folder = fetching.jars_ready(cache, java, environment, said.append, self.WANTED)

        assert (folder / "two-2.jar").read_bytes() == b"2"
        assert [line.split(":")[0] for line in said] == [
            "fetching Kafka 4.1.1 with Maven",
            "fetching Kafka 4.1.1 with jgo",
        ]

    def test_jgo_also_looks_where_its_own_settings_say(self, cache, java, jgo):
        """A mirror, beside its default; what it raises is told as it is."""
        jgo(broken="mirror")

        with pytest.raises(LogError) as refused:
            fetching.jars_ready(cache, java, {"PATH": ""}, lambda _: None, self.WANTED)

        assert refused.value.code == "N003"
        assert refused.value.message.splitlines() == [
            "Kafka's jars could not be fetched",
            "jgo:",
            "RuntimeError: not found in {'default': 'there', 'broken': 'mirror'}",
        ]


def test_a_damaged_cache_is_refused_and_not_fetched_over(cache, java):
    """Who changed it is a question for the user, whose folder it is."""
    folder = cache / f"kafka-{jars.VERSION}"
    folder.mkdir(parents=True)

    with pytest.raises(LogError, match=r"kafka-raft-4\.1\.1\.jar: missing"):
        fetching.jars_ready(cache, java, {"PATH": ""}, print)


def test_maven_runs_with_the_java_that_was_found(cache, java, maven):
    """A JAVA_HOME that leads nowhere was passed over; Maven would end with it."""
    java.path.parent.mkdir(parents=True)
    java.path.touch()
    environment = {**maven('echo "home is $JAVA_HOME"', "exit 1"), "JAVA_HOME": "/nowhere"}

    with pytest.raises(LogError) as refused:
        fetching.jars_ready(cache, java, environment, lambda _: None)

    assert f"home is {java.path.parent.parent.resolve()}" in refused.value.message
