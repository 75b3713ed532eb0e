"""Nodes are started and serve, or they are gone again and the reason is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from streams import settings
from streams.broker.devbroker import faults, fetching, jars, nodes, probe, processes, state
from streams.broker.devbroker.archive import Archive
from streams.broker.devbroker.fetching import Say
from streams.broker.devbroker.java import Java, find_java
from streams.broker.devbroker.nodes import Node
from streams.broker.devbroker.state import Recording, State
from streams.clock import Clock
from streams.errors import LogError

START_SECONDS = 90.0
STOP_SECONDS = 60.0
"""Longer than any orderly end: the first one may write the archive of classes."""
ATTEMPTS = 3


class Tools(msgspec.Struct, frozen=True):
    """What a broker is run with, all of it checked."""

    java: Java
    jars: Path
    cache: Path
    environment: Mapping[str, str]

    @classmethod
    def ready(cls, say: Say) -> Tools:
        """Java is found and the jars are there; they are fetched if they were not."""
        environment = settings.environment()
        java = find_java(environment)
        cache = fetching.cache_folder(environment)
        folder = fetching.jars_ready(cache, java, environment, say)
        return cls(java, folder, cache, environment)

    @property
    def class_path(self) -> str:
        return jars.class_path(self.jars, jars.pinned())


def begin(
    folder: Path, known: State, port: int, tools: Tools, *, record: bool, clock: Clock
) -> State:
    """Every node runs and serves; tried again where the trouble is one that a new try mends."""
    archive = Archive.fitting(tools.cache, tools.java, tools.class_path, nodes.FLAGS)
    usable = archive.there()
    for attempt in range(1, ATTEMPTS + 1):
        chosen = nodes.choose_ports(known.size, port)
        flags: dict[int, list[str]] = {}
        recording = None
        if usable:
            flags = {node.id: archive.reading() for node in chosen}
        elif record:
            target = archive.path.with_name(f"{archive.path.name}.{clock.new_id()}")
            recording = Recording(str(target), str(archive.path))
            flags = {1: archive.recording(target)}
        planned = msgspec.structs.replace(known, nodes=tuple(chosen), recording=recording)
        try:
            begun = _launch(folder, planned, chosen, tools, flags=flags, clock=clock)
        except _StartFailed as failed:
            # A port that was free a moment ago, or an archive that this Java does not bear.
            taken = any("Address already in use" in line for line in failed.lines)
            if not failed.ended or not (taken or usable) or attempt == ATTEMPTS:
                raise failed.told() from None
            usable = usable and taken
        else:
            if not usable:
                archive.drop()
            return begun
    raise AssertionError("the last attempt returns or raises")


def revive(
    folder: Path, known: State, running: Sequence[Node], tools: Tools, clock: Clock
) -> State:
    """The nodes that have died are back on their old ports; the others run on."""
    missing = [node for node in known.nodes if node not in running]
    for node in missing:
        nodes.choose_ports(1, node.port)
    try:
        return _launch(folder, known, missing, tools, flags={}, clock=clock)
    except _StartFailed as failed:
        raise failed.told() from None


def served(folder: Path, known: State, clock: Clock) -> State:
    """Every node of it serves: also one whose start somebody else has begun and not waited for."""
    try:
        _wait(folder, known.nodes, known.size, clock)
    except _StartFailed as failed:
        raise failed.told() from None
    return known


class _StartFailed(Exception):
    """Not for others: a start that may be tried again in another way."""

    def __init__(self, log: Path, *, ended: bool) -> None:
        super().__init__(log)
        self.log = log
        self.ended = ended
        self.lines = nodes.tail(log)

    def told(self) -> LogError:
        if self.ended:
            return faults.ended_early(self.log, self.lines)
        return faults.not_serving(self.log, START_SECONDS, self.lines)


def _launch(
    folder: Path,
    known: State,
    starting: Sequence[Node],
    tools: Tools,
    *,
    flags: Mapping[int, list[str]],
    clock: Clock,
) -> State:
    """These nodes of the cluster serve, or are gone again."""
    environment = {**tools.environment, "CLASSPATH": tools.class_path}
    started: dict[int, str] = {}
    try:
        for node in starting:
            nodes.prepare(
                folder, node, known.nodes, cluster_id=known.cluster_id, given=known.properties
            )
            words = nodes.command(folder, node, tools.java.path, flags.get(node.id, []))
            pid = processes.spawn(words, environment, nodes.log_file(folder, node.id))
            started[pid] = nodes.mark(folder, node)
            known = known.with_process(node.id, pid)
            # After every single one: whoever kills us now, the next start or stop finds it.
            state.write(folder, known)
        ids = {node.id for node in starting}
        _wait(folder, [node for node in known.nodes if node.id in ids], known.size, clock)
    except BaseException:
        processes.end(started, STOP_SECONDS, clock)
        raise
    return known


def _wait(folder: Path, starting: Sequence[Node], size: int, clock: Clock) -> None:
    """Each node serves, and knows of all others."""
    limit = clock.monotonic() + START_SECONDS
    for node in starting:
        while not _ready(node, size):
            for each in starting:
                if not processes.runs(each.pid, nodes.mark(folder, each)):
                    raise _StartFailed(nodes.log_file(folder, each.id), ended=True)
            if clock.monotonic() > limit:
                raise _StartFailed(nodes.log_file(folder, node.id), ended=False)
            processes.pause()


def _ready(node: Node, size: int) -> bool:
    return probe.serves(node.port) and (size == 1 or probe.known_nodes(node.port) == size)
