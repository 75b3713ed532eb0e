"""Brings the jars into the cache folder, once a machine and user, by a tool that is there.

Where from is the business of the tool and of its own settings: mirrors and proxies set for Maven or
jgo hold here too. What came is compared with our checksums before anything of it is kept.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from xml.sax.saxutils import escape

from streams.broker.devbroker import faults, jars
from streams.broker.devbroker.jars import Jar
from streams.broker.devbroker.java import Java
from streams.broker.devbroker.locking import locked

FETCH_SECONDS = 600.0
TAIL = 12

Say = Callable[[str], None]


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where this user keeps what can be fetched again (XDG base directories)."""
    base = environment.get("XDG_CACHE_HOME") or ""
    # A relative path is to be ignored, says the specification.
    root = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return root / "interlock-streams"


def jars_ready(
    cache: Path,
    java: Java,
    environment: Mapping[str, str],
    say: Say,
    wanted: tuple[Jar, ...] | None = None,
) -> Path:
    """The folder with every jar, each verified; fetched now if it was not there."""
    wanted = wanted or jars.pinned()
    folder = cache / f"kafka-{jars.VERSION}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with locked(cache / "lock"):
            if not folder.is_dir():
                _fetch(folder, wanted, java, environment, say)
    jars.verify(folder, wanted)
    return folder


def fetchers(environment: Mapping[str, str]) -> list[str]:
    """The tools that are here, the one tried first in front."""
    there = ["Maven"] if shutil.which("mvn", path=environment.get("PATH")) else []
    return [*there, "jgo"] if find_spec("jgo") else there


def _fetch(
    folder: Path, wanted: tuple[Jar, ...], java: Java, environment: Mapping[str, str], say: Say
) -> None:
    """The folder appears whole and verified, or not at all."""
    tools = fetchers(environment)
    if not tools:
        raise faults.no_fetcher(folder)
    tries = []
    for tool in tools:
        say(f"fetching Kafka {jars.VERSION} with {tool}: {len(wanted)} jars, 43 MB, only once")
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as name:
            target = Path(name, "jars")
            target.mkdir()
            if tool == "Maven":
                trouble = _by_maven(target, wanted, java, environment)
            else:
                trouble = _by_jgo(target, wanted)
            if not trouble:
                jars.verify(target, wanted)
                target.rename(folder)
                return
            tries.append(f"{tool}:\n{trouble}")
    raise faults.not_fetched(tries)


def _by_maven(
    target: Path, wanted: tuple[Jar, ...], java: Java, environment: Mapping[str, str]
) -> str:
    """What went wrong, "" when all jars are in the folder."""
    project = target.parent / "pom.xml"
    project.write_text(pom(wanted), encoding="utf-8")
    maven = shutil.which("mvn", path=environment.get("PATH")) or "mvn"
    command = [maven, "-B", "-q", "-f", str(project), "dependency:copy-dependencies"]
    surroundings = dict(environment)
    home = java.path.resolve().parent.parent
    if (home / "bin" / "java").is_file():
        # The one that was seen to work: the user's JAVA_HOME may be what was passed over.
        surroundings["JAVA_HOME"] = str(home)
    try:
        done = subprocess.run(  # noqa: S603 -- the user's own Maven, our own words
            [*command, f"-DoutputDirectory={target}"],
            env=surroundings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=FETCH_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    return "\n".join(done.stdout.strip().splitlines()[-TAIL:]) or f"exit code {done.returncode}"


def pom(wanted: tuple[Jar, ...]) -> str:
    """A project that depends on exactly these jars: nothing is left to be resolved."""
    dependencies = [
        f"<dependency><groupId>{escape(jar.group)}</groupId>"
        f"<artifactId>{escape(jar.artifact)}</artifactId><version>{escape(jar.version)}</version>"
        "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion>"
        "</exclusions></dependency>"
        for jar in wanted
    ]
    return "\n".join(
        [
            "<project><modelVersion>4.0.0</modelVersion>",
            "<groupId>streams</groupId><artifactId>devbroker</artifactId><version>1</version>",
            "<packaging>pom</packaging>",
            "<dependencies>",
            *dependencies,
            "</dependencies></project>",
        ]
    )


def _by_jgo(target: Path, wanted: tuple[Jar, ...]) -> str:
    """What went wrong, "" when all jars are in the folder.

    Each jar is asked for by its own coordinate. Asked for Kafka and the log binding together, jgo
    mixes their version tables and brings kafka-clients 3.8.0, with which the broker dies.
    """
    try:
        maven, config = import_module("jgo.maven"), import_module("jgo.config")
        repositories = config.GlobalSettings.load().repositories
        context = maven.MavenContext(repo_cache=target.parent / "repository")
        context.remote_repos.update(repositories)
        for jar in wanted:
            component = context.project(jar.group, jar.artifact).at_version(jar.version)
            shutil.move(component.artifact().resolve(), target / jar.name)
    except Exception as error:  # noqa: BLE001 -- a stranger's code and a network: told as it is
        return f"{type(error).__name__}: {error}"
    return ""
