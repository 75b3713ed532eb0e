"""All error codes with their explanations, collected from the modules that raise them."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.util import find_spec
from pathlib import Path

import streams


def all_explanations() -> dict[str, str]:
    """Code → Markdown. Every module's table `EXPLANATIONS` counts; nothing else is imported."""
    known: dict[str, str] = {}
    for module in pkgutil.walk_packages(streams.__path__, "streams."):
        if not module.ispkg and _has_table(module.name):
            known.update(importlib.import_module(module.name).EXPLANATIONS)
    return known


def _has_table(module: str) -> bool:
    spec = find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return False
    text = Path(spec.origin).read_text(encoding="utf-8")
    return text.startswith("EXPLANATIONS") or "\nEXPLANATIONS" in text
