"""Which jars the broker is made of, and that it is exactly those."""

import hashlib

import pytest

from streams.broker.devbroker import jars
from streams.broker.devbroker.fetching import pom
from streams.broker.devbroker.jars import Jar
from streams.errors import LogError


def made(folder, name, content):
    """A jar of that content, as the list would have it."""
    jar = Jar("org.example", name, "1.0", hashlib.sha256(content).hexdigest())
    (folder / jar.name).write_bytes(content)
    return jar


def test_the_list_is_kafka_with_its_log_binding():
    """46 files; slf4j 1.7 binds to log4j-slf4j-impl and to no other."""
    names = [jar.name for jar in jars.pinned()]

    assert len(names) == len(set(names)) == 46
    assert {"kafka_2.13-4.1.1.jar", "kafka-clients-4.1.1.jar", "slf4j-api-1.7.36.jar"} <= {*names}
    assert "log4j-slf4j-impl-2.24.3.jar" in names
    assert {len(jar.sha256) for jar in jars.pinned()} == {64}


def test_a_folder_with_each_jar_as_released_is_taken(tmp_path):
    """Files beside them do no harm: nothing loads them."""
    wanted = (made(tmp_path, "a", b"A"), made(tmp_path, "b", b"B"))
    (tmp_path / "other.jar").write_bytes(b"?")

    jars.verify(tmp_path, wanted)


def test_a_changed_and_a_missing_jar_are_refused_by_name(tmp_path):
    """All of them at once, and not those that are right."""
    right, changed, missing = (made(tmp_path, name, name.encode()) for name in ("a", "b", "c"))
    (tmp_path / changed.name).write_bytes(b"something else")
    (tmp_path / missing.name).unlink()

    with pytest.raises(LogError) as refused:
        jars.verify(tmp_path, (right, changed, missing))

    assert refused.value.code == "N004"
    assert "b-1.0.jar: sha256 is " in refused.value.message
    assert "c-1.0.jar: missing" in refused.value.message
    assert "a-1.0.jar" not in refused.value.message
    assert str(tmp_path) in refused.value.help


def test_the_class_path_names_each_jar_in_one_order(tmp_path):
    """An archive of classes fits only the very same path; a folder's own order is chance."""
    one, other = made(tmp_path, "a", b"A"), made(tmp_path, "b", b"B")

    expected = f"{tmp_path}/a-1.0.jar:{tmp_path}/b-1.0.jar"
    assert jars.class_path(tmp_path, (one, other)) == expected
    assert jars.class_path(tmp_path, (other, one)) == expected


def test_maven_is_left_nothing_to_resolve():
    """Each jar by its own version, what it would bring along excluded."""
    text = pom((Jar("g", "one", "1", ""), Jar("g", "two", "2", "")))

    assert text.count("<dependency>") == text.count("<exclusion>") == 2
    assert "<artifactId>two</artifactId><version>2</version>" in text
