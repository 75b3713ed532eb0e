"""The peers, each in an environment of its own: two of them want different versions of one library.

    python -m tests.bench.engines.setup [--only quix,bytewax] [--fresh]

What cannot be had here is named with its reason, and the comparison goes on without that peer.
Everything lands in this user's cache folder, in `bench-engines/`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from streams.broker.devbroker.fetching import cache_folder

HERE = Path(__file__).parent
FOLDER = cache_folder(os.environ) / "bench-engines"
KAFKA_STREAMS = "kafka_streams"
KAFKA_STREAMS_VERSION = "4.1.1"
JACKSON_VERSION = "2.19.0"

PACKAGES = {
    "confluent": ("confluent-kafka==2.16.1", "orjson==3.13.0"),
    "aiokafka": ("aiokafka==0.14.0", "orjson==3.13.0", "uvloop"),
    "quix": ("quixstreams==3.28.1", "orjson==3.13.0"),
    "bytewax": ("bytewax[kafka]==0.21.1", "orjson==3.13.0"),
    "faust": ("faust-streaming==0.15.3", "aiokafka==0.14.0", "orjson==3.13.0", "uvloop"),
}
"""The versions that docs/benchmarks.md was measured with."""


def python_of(peer: str) -> Path:
    """The peer's interpreter; perhaps not there yet."""
    return FOLDER / peer / "bin" / "python"


def java_command() -> list[str]:
    """Runs the Kafka Streams engine; perhaps not set up yet."""
    folder = FOLDER / KAFKA_STREAMS
    classes = f"{folder / 'jars'}/*{os.pathsep}{folder / 'classes'}"
    return ["java", "-Xmx1g", "-cp", classes, "KafkaStreamsEngine"]


def is_ready(peer: str) -> bool:
    """Whether it was set up whole."""
    return (FOLDER / peer / "ready").is_file()


def set_up(peer: str) -> str:
    """The peer is ready; else what is missing."""
    folder = FOLDER / peer
    if is_ready(peer):
        return ""
    shutil.rmtree(folder, ignore_errors=True)
    trouble = _java(folder) if peer == KAFKA_STREAMS else _python(folder, PACKAGES[peer])
    if not trouble:
        (folder / "ready").touch()
    return trouble


def _python(folder: Path, packages: tuple[str, ...]) -> str:
    venv.create(folder, with_pip=True, symlinks=True)
    return _run(str(folder / "bin" / "python"), "-m", "pip", "install", "-q", *packages)


def _java(folder: Path) -> str:
    missing = [tool for tool in ("java", "javac", "mvn") if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    folder.mkdir(parents=True)
    project, jars, classes = folder / "pom.xml", folder / "jars", folder / "classes"
    project.write_text(_pom(), encoding="utf-8")
    return _run(
        "mvn", "-B", "-q", "-f", str(project), "dependency:copy-dependencies",
        f"-DoutputDirectory={jars}",
    ) or compiled(jars, classes)  # fmt: skip


def compiled(jars: Path, classes: Path) -> str:
    """The Java engine as it stands in this folder is compiled; else what the compiler said."""
    source = str(HERE / "KafkaStreamsEngine.java")
    return _run("javac", "-cp", f"{jars}/*", "-d", str(classes), source)


def _pom() -> str:
    wanted = (
        ("org.apache.kafka", "kafka-streams", KAFKA_STREAMS_VERSION),
        ("com.fasterxml.jackson.core", "jackson-databind", JACKSON_VERSION),
    )
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        f"<version>{version}</version></dependency>"
        for group, artifact, version in wanted
    )
    return (
        "<project><modelVersion>4.0.0</modelVersion><groupId>streams</groupId>"
        "<artifactId>bench</artifactId><version>1</version><packaging>pom</packaging>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )


def _run(*command: str) -> str:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return "" if done.returncode == 0 else "\n".join(done.stdout.strip().splitlines()[-5:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join((*PACKAGES, KAFKA_STREAMS)))
    parser.add_argument("--fresh", action="store_true")
    given = parser.parse_args()
    missing = 0
    for peer in given.only.split(","):
        if given.fresh:
            shutil.rmtree(FOLDER / peer, ignore_errors=True)
        trouble = set_up(peer)
        missing += bool(trouble)
        print(f"{peer}: {trouble or 'ready'}", flush=True)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
