"""Every block of README and docs/ is true: python runs, topologies validate, commands exist."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from streams import resources
from streams.cli.main import app
from streams.plugins import unload_project_modules
from tests.docs.pages import ROOT, Block, blocks, commands, pages

LANGUAGES = {"python", "yaml", "json", "console", "text", "toml", "markdown", "mermaid"}
ALL = [block for page in pages() for block in blocks(page)]


def of(language: str) -> list[Block]:
    return [block for block in ALL if block.language == language]


def by_place(block: Block) -> str:
    return block.place


def pages_with(language: str) -> list[str]:
    return sorted({block.page for block in of(language)})


def saved(page: str, folder: Path) -> None:
    """Puts the page's named files where a reader would have them."""
    for block in ALL:
        if block.page == page and block.file:
            target = folder / block.file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text, encoding="utf-8")


@pytest.fixture(autouse=True)
def _a_page_s_own_modules_are_forgotten(tmp_path):
    """The next block may bring modules of the same names."""
    yield
    unload_project_modules([tmp_path])


@pytest.mark.parametrize("block", ALL, ids=by_place)
def test_a_block_says_its_language(block):
    """A block without one is executed by nobody, and nobody notices."""
    assert block.language in LANGUAGES, block.place


@pytest.mark.parametrize("page", pages_with("python"))
def test_python_blocks_run_in_order(page, tmp_path):
    """One page is one session in an empty folder, in a process of its own."""
    saved(page, tmp_path)
    parts = [(block.place, block.text) for block in of("python") if block.page == page]
    code = "\n".join(f"exec(compile({text!r}, {place!r}, 'exec'))" for place, text in parts)

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", [b for b in of("yaml") if ".test." in b.file], ids=by_place)
def test_a_block_of_tests_runs_and_holds(block, tmp_path, monkeypatch):
    """By the command that the reader would use, with the page's other files beside it."""
    saved(block.page, tmp_path)
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(app, ["test", block.file])

    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    "block",
    [block for block in of("yaml") if "stages:" in block.text and ".test." not in block.file],
    ids=by_place,
)
def test_a_topology_block_validates(block, tmp_path, monkeypatch):
    """By the command that the reader would use, with the page's other files beside it."""
    saved(block.page, tmp_path)
    name = block.file or "pipeline.yaml"
    (tmp_path / name).write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(app, ["validate", name])

    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", [n for n in resources.names("topologies") if "test." not in n])
def test_a_shipped_topology_validates(name):
    """What ships is what people copy."""
    result = CliRunner().invoke(app, ["validate", str(resources.folder("topologies") / name)])

    assert result.exit_code == 0, result.output


def test_every_json_block_is_json():
    """It will be pasted."""
    for block in of("json"):
        assert json.loads(block.text) is not None, block.place


def verb_and_options(words: list[str]) -> str | None:
    """What is wrong with a `streams …` command line, by the command line's own definition."""
    command = typer.main.get_command(app)
    path = "streams"
    while words and hasattr(command, "commands"):
        word = words.pop(0)
        if word.startswith("-"):
            return None if word in {"--help", "--version"} else f"{path} has no {word}"
        if word not in command.commands:
            return f"{path} has no verb {word}"
        command, path = command.commands[word], f"{path} {word}"
    known = {name for p in command.params for name in [*p.opts, *p.secondary_opts]} | {"--help"}
    for word in words:
        if word.startswith("-") and word != "-" and word.partition("=")[0] not in known:
            return f"{path} has no {word}"
    return None


def streams_calls(block: Block) -> list[list[str]]:
    """The arguments of each `streams` in the block's commands, also within `a && b | c`."""
    calls = []
    for line in commands(block):
        for piece in re.split(r"&&|\|\||[|;]", line):
            words = shlex.split(piece)
            for index, word in enumerate(words):
                if Path(word).name in {"streams", "interlock-streams"}:
                    calls.append(words[index + 1 :])
                    break
    return calls


@pytest.mark.parametrize("block", of("console"), ids=by_place)
def test_the_commands_of_a_console_block_exist(block):
    """Verbs and options, each as the command line defines them now."""
    assert commands(block), f"{block.place}: no line starts with `$ `"
    for words in streams_calls(block):
        assert verb_and_options(list(words)) is None, block.place


def test_files_named_in_the_docs_are_there():
    """A link to a page or file of this repository leads somewhere."""
    missing = [
        f"{page.relative_to(ROOT)} → {target}"
        for page in pages()
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if not re.match(r"[a-z]+:", target) and not (page.parent / target).exists()
    ]

    assert missing == []


def test_tests_named_in_the_docs_are_there():
    """A promise is worth the test behind it."""
    missing = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text):
            file = ROOT / path
            if not file.is_file() or (name and f"def {name}(" not in file.read_text("utf-8")):
                missing.append(f"{page.name}: {path}::{name}")

    assert missing == []
