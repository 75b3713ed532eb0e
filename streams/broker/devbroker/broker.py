"""A real Kafka for development and tests: started, found again, stopped.

One folder is one broker: a node, or three of them, with its data. Every function looks at the
folder and at the processes, so it does not matter who started what, or how it ended.
"""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from streams.broker.devbroker import faults, jars, launching, nodes, processes, state
from streams.broker.devbroker.fetching import Say
from streams.broker.devbroker.launching import Tools
from streams.broker.devbroker.locking import locked
from streams.broker.devbroker.nodes import Node
from streams.broker.devbroker.state import State
from streams.clock import Clock, SystemClock
from streams.errors import UserError

DEFAULT_PORT = 9092


class Broker(msgspec.Struct, frozen=True):
    """A broker as it was found."""

    folder: Path
    cluster_id: str
    kafka: str
    """Its version."""
    size: int
    """Nodes that it consists of."""
    nodes: tuple[Node, ...]
    """Nodes that run."""

    @property
    def bootstrap(self) -> str:
        """What a client is given."""
        return ",".join(node.address for node in self.nodes)

    @property
    def whole(self) -> bool:
        """Whether every node of it runs."""
        return len(self.nodes) == self.size


def start_broker(
    folder: Path,
    *,
    port: int | None = None,
    size: int | None = None,
    fresh: bool = False,
    properties: Mapping[str, str] | None = None,
    record_archive: bool = True,
    tools: Tools | None = None,
    say: Say = lambda _: None,
    clock: Clock | None = None,
) -> Broker:
    """Every node of the folder's broker serves; if all did already, nothing was changed.

    `port`: default 9092; 0 takes any that is free; of several nodes each takes the next one.
    `size`: nodes; by default as many as there were, at first one. A node of a running cluster that
    has died is started again where it was. `properties`: Kafka's own settings, over ours.
    `record_archive=False` saves the first stop the seconds that writing the class archive takes.
    `tools`: Java and jars; by default what this machine has, fetched if it has not.
    Raises UserError for what was asked, LogError for what this machine lacks.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    clock = clock or SystemClock()
    with locked(folder / "lock"):
        known = _known(folder, fresh=fresh)
        running = known.running(folder) if known else ()
        if known and running:
            _refuse_other(known, running, port=port, size=size, fresh=fresh)
            if len(running) < known.size:
                tools = tools or Tools.ready(say)
                known = launching.revive(folder, known, running, tools, clock)
            known = launching.served(folder, known, clock)
            return _broker(folder, known, known.nodes)
        if known and not fresh and size not in (None, known.size):
            raise faults.does_not_fit(
                f"the data in {folder} are those of {_count(known.size)}, not of {_count(size)}"
            )
        tools = tools or Tools.ready(say)
        if fresh:
            _empty(folder)
            known = None
        planned = State(
            known.cluster_id if known else _new_cluster_id(clock),
            jars.VERSION,
            known.size if known else size or 1,
            properties=dict(properties or {}),
        )
        wanted = DEFAULT_PORT if port is None else port
        begun = launching.begin(folder, planned, wanted, tools, record=record_archive, clock=clock)
        return _broker(folder, begun, begun.nodes)


def find_broker(folder: Path) -> Broker | None:
    """The broker of the folder with the nodes that run, or None if none does."""
    folder = folder.resolve()
    known = state.read(folder)
    running = known.running(folder) if known else ()
    return _broker(folder, known, running) if known and running else None


def stop_broker(folder: Path, clock: Clock | None = None) -> Broker | None:
    """No node of the folder's broker runs any more; what ran until now, or None."""
    folder = folder.resolve()
    if not (folder / state.FILE).is_file():
        return None
    with locked(folder / "lock"):
        known = state.read(folder)
        if known is None:
            return None
        running = known.running(folder)
        marks = {node.pid: nodes.mark(folder, node) for node in running}
        orderly = processes.end(marks, launching.STOP_SECONDS, clock or SystemClock())
        if known.recording is not None:
            _settle_archive(known.recording, whole=orderly and bool(running))
        state.write(folder, msgspec.structs.replace(known, nodes=(), recording=None))
        return _broker(folder, known, running) if running else None


@contextmanager
def running_broker(
    folder: Path, nodes: int = 1, properties: Mapping[str, str] | None = None
) -> Iterator[str]:
    """A broker serves on free ports while the block runs; gives `HOST:PORT`, several with commas.

    Its data stay in the folder for the next one.
    """
    try:
        broker = start_broker(
            folder, port=0, size=nodes, properties=properties, record_archive=False
        )
        yield broker.bootstrap
    finally:
        stop_broker(folder)


def _known(folder: Path, *, fresh: bool) -> State | None:
    """What the folder says; `fresh` is the way out of a file that cannot be read."""
    try:
        return state.read(folder)
    except UserError:
        if not fresh:
            raise
        return None


def _refuse_other(
    known: State, running: tuple[Node, ...], *, port: int | None, size: int | None, fresh: bool
) -> None:
    """What runs is what was asked for, as far as something was asked for."""
    bootstrap = ",".join(node.address for node in running)
    if fresh:
        raise faults.runs_otherwise(bootstrap, "an empty one")
    if size not in (None, known.size):
        raise faults.runs_otherwise(bootstrap, f"one of {_count(size)}")
    if port and port != known.nodes[0].port:
        raise faults.runs_otherwise(bootstrap, f"one on port {port}")


def _empty(folder: Path) -> None:
    """All data of the folder's broker are gone."""
    for node in folder.glob("node-*"):
        shutil.rmtree(node)
    (folder / state.FILE).unlink(missing_ok=True)


def _settle_archive(recording: state.Recording, *, whole: bool) -> None:
    """What the ended node wrote is used by the next start, if it had the time to write all of it."""
    written = Path(recording.written)
    if whole and written.is_file():
        written.replace(recording.becomes)
    else:
        written.unlink(missing_ok=True)
    # What newer JVMs write first, and leave behind when they are not let finish.
    written.with_name(f"{written.name}.config").unlink(missing_ok=True)


def _broker(folder: Path, known: State, running: tuple[Node, ...]) -> Broker:
    return Broker(folder, known.cluster_id, known.kafka, known.size, running)


def _new_cluster_id(clock: Clock) -> str:
    """22 characters, as Kafka writes its ids."""
    return base64.urlsafe_b64encode(bytes.fromhex(clock.new_id())).decode().rstrip("=")


def _count(size: int | None) -> str:
    return "one node" if size == 1 else f"{size} nodes"
