"""A project folder: written by `init`, found and loaded by the verbs that run it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from streams.errors import NotFoundError, UserError

if TYPE_CHECKING:
    from streams.app import App
    from streams.topology.load import Topology

TEMPLATE = (
    "pipeline.yaml",
    "demo_stages.py",
    "pipeline.test.yaml",
    "test_demo_pipeline.py",
    "test_demo_stages.py",
    "jobs.jsonl",
    "README.md",
)
NOT_TOPOLOGIES = ("streams.yaml", "streams.yml")

EXPLANATIONS: dict[str, str] = {
    "C111": """\
**The folder is not empty.** `init` writes into a new or an empty folder only, so that it can never
overwrite anything. Next: name another folder.""",
    "C112": """\
**No topology file here.** `dev` without a file runs every `*.yaml` of the folder that is not a
settings file or a test. Next: name the file, or `streams init demo && cd demo`.""",
}


def write_project(folder: Path, *, dry_run: bool = False) -> list[Path]:
    """A project that works stands in the folder, which was new or empty; the files written."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} is not empty", code="C111", help="name a folder that is new or empty"
        )
    files = [folder / name for name in TEMPLATE]
    if dry_run:
        return files
    from streams.plugins import unload_project_modules

    folder.mkdir(parents=True, exist_ok=True)
    template = resources.files("streams.cli") / "project_template"
    for path in files:
        path.write_bytes((template / path.name).read_bytes())
    (folder / ".gitignore").write_text(".streams/\n__pycache__/\n", encoding="utf-8")
    try:
        load([folder / "pipeline.yaml"])
    finally:
        unload_project_modules([folder])
    return files


def load(files: Sequence[Path]) -> list[Topology]:
    """The topologies in the files, checked whole, as a worker checks them."""
    return application(files).topologies


def application(files: Sequence[Path]) -> App:
    """The files' pipelines with all they bring, not running."""
    from streams.app import App

    return App.from_files(*files)


def topology_files(given: Sequence[Path], folder: Path) -> list[Path]:
    """The files to run: those named, else every topology of the folder."""
    if given:
        return list(given)
    found = sorted(
        path
        for path in (*folder.glob("*.yaml"), *folder.glob("*.yml"))
        if path.name not in NOT_TOPOLOGIES and ".test." not in path.name
    )
    if not found:
        raise NotFoundError(
            "no topology file in this folder",
            code="C112",
            help="name one, or start a project: streams init demo && cd demo",
        )
    return found
