"""A cached, deterministic loader of topologies and their recorded versions."""

from __future__ import annotations

from pathlib import Path

from streams.topology.findings import Finding, TopologyError
from streams.topology.load import Topology, load_file
from streams.topology.manifest import manifest_of, refuse_change, revisions, verify
from streams.topology.types import StageTypes


class Loader:
    """Loads topologies once per content: as long as a file stays the same, so does its plan."""

    def __init__(self, types: StageTypes | None = None) -> None:
        self._types = types
        self._known: dict[Path, tuple[tuple[int, int], Topology]] = {}

    def load(self, path: str | Path, force: bool = False) -> Topology:
        """The topology, checked against its manifest; raises TopologyError."""
        path = Path(path)
        stamp = self._stamp(path)
        kept = self._known.get(path)
        if kept and stamp is not None and kept[0] == stamp and not force:
            topology = kept[1]
            verify(topology.plan, path)
        else:
            topology = load_file(path, self._types)
            if stamp is not None:
                self._known[path] = (stamp, topology)
        return topology

    def load_version(self, topologies: str | Path, pipeline: str, version: str) -> Topology:
        """A recorded revision by its number; its digest must be the recorded one."""
        manifest = manifest_of(Path(topologies), pipeline)
        found = next((r for r in revisions(manifest) if r.version == version), None)
        if found is None or found.file is None:
            message = f"version {version} of `{pipeline}` is not kept"
            raise TopologyError([Finding("T161", message, str(manifest))])
        path = manifest.parent / Path(found.file).name
        kept = self._known.get(path)
        stamp = self._stamp(path)
        topology = kept[1] if kept and kept[0] == stamp else load_file(path, self._types)
        refuse_change(topology.plan, (found,), path)
        if stamp is not None:
            self._known[path] = (stamp, topology)
        return topology

    def invalidate(self, path: str | Path | None = None) -> None:
        """Forgets one file, or all."""
        if path is None:
            self._known.clear()
        else:
            self._known.pop(Path(path), None)

    @staticmethod
    def _stamp(path: Path) -> tuple[int, int] | None:
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size
