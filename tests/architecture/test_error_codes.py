"""Every error code is explained once: `streams explain CODE` has an answer for whatever is printed."""

import importlib
import pkgutil
import re
from collections import Counter
from pathlib import Path

import streams

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"[A-Z]\d{3}")
RAISED = re.compile(r"""\bcode(?::\s*str)?\s*=\s*"([A-Z]\d{3})\"""")


def tables():
    """Module → its EXPLANATIONS."""
    for info in pkgutil.walk_packages(streams.__path__, "streams."):
        if ".project_template" in info.name:
            continue
        found = vars(importlib.import_module(info.name)).get("EXPLANATIONS")
        if found is not None:
            yield info.name, found


def test_each_code_is_explained_in_one_place():
    """Two texts for one code would be two meanings; a table imported elsewhere is still one."""
    distinct = {id(table): table for _, table in tables()}.values()
    parts = [set(table) for table in distinct]
    whole = [p for p in parts if any(q < p for q in parts)]  # a collected table repeats the others

    counted = Counter(code for part in parts if part not in whole for code in part)

    assert [code for code, times in counted.items() if times > 1] == []


def test_codes_are_one_letter_and_three_digits_and_say_what_to_do():
    """Stable, short, searchable; the text is more than the message again."""
    for module, table in tables():
        for code, text in table.items():
            assert CODE.fullmatch(code), f"{module}: {code}"
            assert len(text.split()) > 4, f"{module}: {code} explains nothing"


def test_every_code_in_the_source_is_explained():
    """A code printed without an explanation is a dead end."""
    explained = {code for _, table in tables() for code in table}
    raised = {
        code: path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "streams").rglob("*.py"))
        for code in RAISED.findall(path.read_text(encoding="utf-8"))
    }

    assert {code: place for code, place in raised.items() if code not in explained} == {}
