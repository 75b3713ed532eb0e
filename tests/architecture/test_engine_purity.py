"""The engine decides and the runtime acts: no I/O, no clock, no chance in `streams.engine`."""

import ast
import time
import types
from pathlib import Path

import pytest

from tests.architecture.purity import ImpureCall, pure_engine

ENGINE = Path(__file__).parents[2] / "streams" / "engine"

ALLOWED_MODULES = {
    "__future__",
    "bisect",
    "base64",
    "collections",
    "contextlib",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "functools",
    "graphlib",
    "hashlib",
    "heapq",
    "itertools",
    "json",
    "math",
    "msgspec",
    "operator",
    "re",
    "streams",
    "string",
    "struct",
    "typing",
    "uuid",
}
BANNED_NAMES = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint"}
BANNED_ATTRIBUTES = {"now", "today", "utcnow", "uuid1", "uuid4"}


def impurities(source: str) -> list[str]:
    """What a module imports or calls that could reach outside."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                modules = [alias.name for alias in names]
            case ast.ImportFrom(module=module):
                modules = [module or ""]
            case ast.Call(func=ast.Name(id=name)) if name in BANNED_NAMES:
                modules = []
                found.append(f"calls {name}")
            case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr=attr)) if (
                attr in BANNED_ATTRIBUTES and owner in {"datetime", "date", "uuid"}
            ):
                modules = []
                found.append(f"calls {owner}.{attr}")
            case ast.AsyncFunctionDef(name=name) | ast.Await(value=ast.Name(id=name)):
                modules = []
                found.append(f"is asynchronous in {name}")
            case _:
                continue
        found += [f"imports {m}" for m in modules if m.partition(".")[0] not in ALLOWED_MODULES]
        found += [f"imports {m}" for m in modules if m in {"streams.clock", "streams.settings"}]
    return found


@pytest.mark.parametrize("path", sorted(ENGINE.glob("*.py")), ids=lambda p: p.stem)
def test_an_engine_module_imports_and_calls_nothing_that_reaches_outside(path):
    """A decision that can be replayed from its inputs is one that can be proved."""
    assert impurities(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import time", "imports time"),
        ("from os import environ", "imports os"),
        ("from streams.clock import Clock", "imports streams.clock"),
        ("open('x')", "calls open"),
        ("import uuid\nuuid.uuid4()", "calls uuid.uuid4"),
        ("async def f(): ...", "is asynchronous in f"),
    ],
)
def test_the_check_sees_each_way_out(source, said):
    """A guard that cannot fail guards nothing."""
    assert said in impurities(source)


def test_the_guard_around_the_engines_suite_refuses_a_clock_to_the_engine_only():
    """The suites under tests/unit/engine run inside this guard."""
    inside = types.ModuleType("streams.engine.planted")
    outside = types.ModuleType("somewhere.planted")
    for module in (inside, outside):
        exec("import time\ndef look(): return time.time()", module.__dict__)

    with pure_engine():
        assert outside.look() > 0
        with pytest.raises(ImpureCall, match=r"streams\.engine\.planted called time\.time"):
            inside.look()

    assert time.time() > 0
