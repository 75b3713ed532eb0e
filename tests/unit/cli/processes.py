"""A `streams` process under test: its lines as they come, each awaited with a limit."""

import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).parents[3]
LIMIT = 30.0
"""Seconds; a busy machine may need some of them."""


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}


def _hears_ctrl_c():
    """As at a terminal: a suite in the background hands a SIGINT on that is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(folder, *words, timeout=LIMIT):
    """The verb has run; its result."""
    return subprocess.run(
        [sys.executable, "-m", "streams.cli.main", *words],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


class Process:
    """A verb that keeps running; stdout and stderr in one stream of lines."""

    def __init__(self, folder, *words):
        self.lines = []
        self._queue = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streams.cli.main", *words],
            cwd=folder,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=_hears_ctrl_c,  # noqa: PLW1509 - takes no lock that a thread could hold
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join()
        self.process.stdout.close()
        self.process.stdin.close()

    def _read(self):
        for line in self.process.stdout:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def until(self, *words):
        """The next line that holds all these words; fails with all lines if none comes."""
        while True:
            try:
                line = self._queue.get(timeout=LIMIT)
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"no line with {words} in:\n" + "\n".join(self.lines))
            self.lines.append(line)
            if all(word in line for word in words):
                return line

    def type(self, *lines):
        """As if somebody typed these lines."""
        self.process.stdin.write("".join(f"{line}\n" for line in lines))
        self.process.stdin.flush()

    def stop(self, number=signal.SIGINT):
        """Asked to stop; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=LIMIT)
