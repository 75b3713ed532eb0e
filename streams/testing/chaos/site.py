"""A folder with the load's pipeline, and the worker processes that an operator would have."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from streams.clock import Clock
from streams.settings import environment
from streams.testing.chaos import stages
from streams.testing.chaos.load import CANARY, PIPELINE, SIDE_POOL, STAGES

PATIENCE = 40.0
"""Seconds that an orderly end may take; far more than the rule that judges it allows."""
LOOK = 0.02
MEMORY = 6 << 30
"""Bytes of address space that a worker has: a stage that wants more gets an error."""


class Duty(msgspec.Struct, frozen=True):
    """What a worker of this name does."""

    name: str
    pools: tuple[str, ...]
    keeper: bool

    def words(self) -> list[str]:
        chosen = [word for pool in self.pools for word in ("--pool", pool)]
        return [*chosen, "--keeper", "yes" if self.keeper else "no"]


TEAM = (
    Duty("agents-1", ("default",), keeper=False),
    Duty("agents-2", ("default",), keeper=False),
    Duty("keeper", (SIDE_POOL,), keeper=True),
)
"""Two processes of agents, and the keeper in a third."""
SECOND_KEEPER = Duty("keeper-2", (SIDE_POOL,), keeper=True)


class Site:
    """Starts, kills, freezes and stops workers; each keeps its name over its deaths."""

    def __init__(
        self,
        folder: Path,
        bootstrap: str,
        *,
        namespace: str,
        topology: str,
        clock: Clock,
        options: Mapping[str, str | int | float | bool],
        python: str = sys.executable,
    ) -> None:
        self.folder = folder
        self.bootstrap = bootstrap
        self.namespace = namespace
        self.clock = clock
        self.duties: dict[str, Duty] = {}
        self.exits: list[tuple[str, int]] = []
        """Who ended by itself, and with which code."""
        self.around: dict[str, dict[str, str]] = {}
        """Name → variables that this worker has beside the others'."""
        self._python = python
        self._options = json.dumps(dict(options))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._started = 0
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{STAGES}.py").write_text(Path(stages.__file__).read_text(encoding="utf-8"))
        self.file.write_text(topology, encoding="utf-8")

    @property
    def file(self) -> Path:
        return self.folder / f"{PIPELINE}.pipeline.yaml"

    @property
    def alive(self) -> list[str]:
        """Names of the processes that run, stopped ones included."""
        return [name for name, process in self._processes.items() if process.poll() is None]

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    # -- life and death ---------------------------------------------------------------------

    def start(self, duty: Duty) -> None:
        """The worker runs; it may take a second until it works."""
        self.duties[duty.name] = duty
        self._started += 1
        command = [
            self._python, "-m", "streams.cli.main", "worker", str(self.file),
            "--kafka", self.bootstrap, *duty.words(),
        ]  # fmt: skip
        with self.log_file(duty.name).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own command line
                command, stdout=log, stderr=log, cwd=self.folder, env=self._environment(duty.name)
            )
        resource.prlimit(process.pid, resource.RLIMIT_AS, (MEMORY, MEMORY))
        self._processes[duty.name] = process

    def start_team(self) -> None:
        for duty in TEAM:
            self.start(duty)

    def restart(self, name: str) -> None:
        self.start(self.duties[name])

    def kill(self, name: str) -> None:
        """It dies of kill -9, and says no good-bye."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def freeze(self, name: str) -> None:
        os.kill(self.pid(name), signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        os.kill(self.pid(name), signal.SIGCONT)

    async def stop(self, name: str) -> tuple[int | None, float]:
        """SIGTERM: the exit code (None if there was none in time) and the seconds it took."""
        process = self._processes.pop(name)
        began = self.clock.monotonic()
        process.terminate()
        while process.poll() is None and self.clock.monotonic() - began < PATIENCE:
            await self.clock.sleep(LOOK)
        if process.poll() is None:
            process.kill()
            process.wait()
            return None, self.clock.monotonic() - began
        return process.returncode, self.clock.monotonic() - began

    def revive(self) -> list[str]:
        """Who ended by itself is started again, as a supervisor would; their names."""
        dead = [name for name, process in self._processes.items() if process.poll() is not None]
        for name in dead:
            self.exits.append((name, self._processes[name].returncode))
            self.restart(name)
        return dead

    def close(self) -> None:
        """No process of the trial is left."""
        for name in list(self._processes):
            self.kill(name)

    # -- what they said ---------------------------------------------------------------------

    def log_file(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def said(self, name: str, event: str) -> list[dict[str, object]]:
        """The log lines of this event, of all lives of the worker."""
        return [line for line in self.lines(name) if line.get("event") == event]

    def lines(self, name: str) -> list[dict[str, object]]:
        """Every log line of the worker that is one."""
        file = self.log_file(name)
        if not file.exists():
            return []
        found = []
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                each = json.loads(line)
            except ValueError:
                continue
            if isinstance(each, dict):
                found.append(each)
        return found

    def tails(self, size: int = 1_500) -> str:
        """The ends of all logs, for whoever wonders."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text(encoding='utf-8', errors='replace')[-size:]}"
            for path in sorted(self.folder.glob("*.log"))
        )

    def python_path(self, first: Path) -> str:
        """Where a worker looks for modules: in that folder before all others."""
        known = environment().get("PYTHONPATH", "")
        return os.pathsep.join(each for each in (str(first), known) if each)

    def _environment(self, name: str) -> Mapping[str, str]:
        return {
            **environment(),
            "STREAMS_NAMESPACE": self.namespace,
            "STREAMS_STATE_DIR": str(self.folder / "state"),
            "STREAMS_KAFKA__OPTIONS": self._options,
            "STREAMS_LOG_FORMAT": "json",
            "STREAMS_WORKER__NAME": name,
            "STREAMS_SECRET_CHAOS_CANARY": CANARY,
            "PYTHONUNBUFFERED": "1",
            **self.around.get(name, {}),
        }
