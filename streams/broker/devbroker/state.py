"""What a broker's folder says of it: which cluster, and which processes were started."""

from __future__ import annotations

from pathlib import Path

import msgspec

from streams.broker.devbroker import faults, processes
from streams.broker.devbroker.nodes import Node, mark

FILE = "broker.json"


class Recording(msgspec.Struct, frozen=True):
    """An archive of classes that a node writes when it ends."""

    written: str
    """The file that it writes, and ..."""
    becomes: str
    """... the name that a whole one gets."""


class State(msgspec.Struct, frozen=True):
    """As of the last start or stop."""

    cluster_id: str
    kafka: str
    """Version that was started last."""
    size: int
    """Nodes of the cluster: its data fit no other number."""
    nodes: tuple[Node, ...] = ()
    """What was started and not stopped since; whether it still runs, `running` says."""
    properties: dict[str, str] = {}
    """Kafka settings that were given with the start."""
    recording: Recording | None = None

    def running(self, folder: Path) -> tuple[Node, ...]:
        """The nodes whose process is there, and is what it was."""
        return tuple(node for node in self.nodes if processes.runs(node.pid, mark(folder, node)))

    def with_process(self, node: int, pid: int) -> State:
        """The node has been started as this process."""
        changed = (
            msgspec.structs.replace(each, pid=pid) if each.id == node else each
            for each in self.nodes
        )
        return msgspec.structs.replace(self, nodes=tuple(changed))


def read(folder: Path) -> State | None:
    """None if no broker was ever started here."""
    path = folder / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, OSError) as error:
        raise faults.does_not_fit(f"{path} cannot be read: {error}") from None


def write(folder: Path, state: State) -> None:
    """The file is the new one or the old one, never half of it."""
    path = folder / FILE
    draft = path.with_suffix(".new")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=2))
    draft.replace(path)
