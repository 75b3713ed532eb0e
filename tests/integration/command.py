"""The command as a script has it: a folder with a topology, settings, and what came out."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
TOPOLOGY = """\
pipeline: {pipeline}
plugins: {{stages: [{{callable: "folder_stages:{{name}}"}}]}}
stages:
  - {{name: one, type: shout}}
  - {{name: two, type: shout}}
"""
STAGES = """\
from streams import stage


@stage(type="shout")
def shout(ctx):
    return "HERE"
"""


class Done(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Folder:
    """Where the commands are run; `file` is its topology."""

    file = "p.yaml"

    def __init__(self, path: Path, namespace: str, pipeline: str = "p") -> None:
        self.path = path
        self.namespace = namespace
        self.prefix = f"{namespace}.{pipeline}"
        text = TOPOLOGY.format(pipeline=pipeline).replace("{name}", "shout")
        (path / self.file).write_text(text)
        (path / "folder_stages.py").write_text(STAGES)

    def run(self, *words: str, timeout: float = 60, **settings: Any) -> Done:
        """A verb with these settings (`kafka__bootstrap=…`); it ends by itself."""
        done = subprocess.run(
            self._command(words),
            cwd=self.path,
            env=self._environment(settings),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def running(self, *words: str, **settings: Any) -> Iterator[subprocess.Popen[bytes]]:
        """A verb that runs while the block does; what it says is in `said.log`."""
        with (self.path / "said.log").open("ab") as log:
            process = subprocess.Popen(
                self._command(words),
                cwd=self.path,
                env=self._environment(settings),
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            finally:
                process.kill()
                process.wait()

    @property
    def said(self) -> str:
        """All that `running` said so far."""
        return (self.path / "said.log").read_text()

    def _command(self, words: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "streams.cli.main", *words]

    def _environment(self, settings: Mapping[str, Any]) -> dict[str, str]:
        around = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        around["STREAMS_NAMESPACE"] = self.namespace
        for key, value in settings.items():
            text = value if isinstance(value, str) else json.dumps(value)
            around[f"STREAMS_{key.upper()}"] = text
        return around
