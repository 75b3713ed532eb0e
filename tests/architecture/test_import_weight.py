"""`import streams` is light: what is heavy is loaded by whoever first needs it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

HEAVY = [
    "aiokafka",
    "cel",
    "cloudevents",
    "confluent_kafka",
    "fastapi",
    "fsspec",
    "numpy",
    "prometheus_client",
    "rich",
    "ruamel",
    "sqlite3",
    "structlog",
    "typer",
    "watchfiles",
]


def test_import_streams_loads_no_heavy_library():
    """Modules are counted, not seconds: a busy machine must not fail this."""
    code = f"import streams, sys; print([m for m in {HEAVY!r} if m in sys.modules])"

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"
