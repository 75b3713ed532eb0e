"""The jars of the broker: which ones, and proof that a folder holds exactly those."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from streams.broker.devbroker import faults

VERSION = "4.1.1"
"""Of Apache Kafka."""
LIST = Path(__file__).with_name("jars.txt")


class Jar(msgspec.Struct, frozen=True):
    """One released file."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


def pinned() -> tuple[Jar, ...]:
    """Every jar that the broker runs with."""
    lines = LIST.read_text(encoding="utf-8").splitlines()
    jars = []
    for line in lines:
        if line and not line.startswith("#"):
            checksum, coordinate = line.split()
            group, artifact, version = coordinate.split(":")
            jars.append(Jar(group, artifact, version, checksum))
    return tuple(jars)


def verify(folder: Path, jars: tuple[Jar, ...]) -> None:
    """The folder holds every jar as it was released; refuses with the names of those it does not.

    Other files in the folder do no harm: the class path names each jar.
    """
    wrong = []
    for jar in jars:
        path = folder / jar.name
        if not path.is_file():
            wrong.append(f"{jar.name}: missing")
            continue
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != jar.sha256:
            wrong.append(f"{jar.name}: sha256 is {found}, released was {jar.sha256}")
    if wrong:
        raise faults.wrong_jars(folder, wrong)


def class_path(folder: Path, jars: tuple[Jar, ...]) -> str:
    """Each jar by name and in one order: an archive of classes fits only the very same path."""
    return ":".join(str(folder / jar.name) for jar in sorted(jars, key=lambda jar: jar.name))
