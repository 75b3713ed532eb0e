"""Prints what the base install downloads, now and with what later issues bring (bound: 150 MB).

`python tests/bench/install_size.py` asks pip, with the index this machine is configured for, and
keeps nothing. The figures stand in docs/design/base-install.md.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
BOUND_MB = 150
STILL_TO_COME = [
    "aiokafka",
    "aiolimiter",
    "confluent-kafka",
    "faiss-cpu",
    "fastapi",
    "fastavro",
    "httpx",
    "numpy",
    "opensearch-py",
    "orjson",
    "prometheus-client",
    "purgatory",
    "pypdfium2",
    "semantic-text-splitter",
    "tenacity",
    "tokenizers",
    "trafilatura",
    "uvicorn",
]


def wheels(requirements: list[str]) -> list[tuple[int, str]]:
    """(bytes, file) of everything pip would download, biggest first."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-cache-dir"]
        subprocess.run([*command, "--dest", folder, *requirements], check=True)
        return sorted(((p.stat().st_size, p.name) for p in Path(folder).iterdir()), reverse=True)


def show(title: str, files: list[tuple[int, str]]) -> float:
    """Total in MB, printed with its five biggest."""
    total = sum(size for size, _ in files) / 1e6
    print(f"{title}: {total:.1f} MB in {len(files)} files")
    for size, name in files[:5]:
        print(f"  {size / 1e6:6.1f}  {name}")
    return total


def main() -> int:
    """1 when the base install with everything still to come is over the bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base = project["dependencies"]
    show("base install", wheels(base))
    return int(show("with what is still to come", wheels(base + STILL_TO_COME)) > BOUND_MB)


if __name__ == "__main__":
    sys.exit(main())
