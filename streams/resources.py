"""Files that ship with the package: JSON Schemas and topologies, the same in a wheel and a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from streams.errors import NotFoundError

Kind = Literal["schemas", "topologies"]

_WHEEL = Path(__file__).parent / "_data"
_CHECKOUT = Path(__file__).parent.parent

EXPLANATIONS: dict[str, str] = {
    "R404": """**No such file in the package.** A schema or topology was asked for that this version
does not ship. The help line lists those that are there.""",
}


def folder(kind: Kind) -> Path:
    """Where the shipped files of this kind lie on disk."""
    wheel = _WHEEL / kind
    return wheel if wheel.is_dir() else _CHECKOUT / kind


def names(kind: Kind) -> list[str]:
    """Every shipped file of this kind, as a path below its folder, sorted."""
    root = folder(kind)
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def read(kind: Kind, name: str) -> bytes:
    """The file's bytes; `NotFoundError` names what is there instead."""
    known = names(kind)
    if name not in known:
        raise NotFoundError(
            f"no `{name}` among the {kind} of this package",
            code="R404",
            help=f"there are: {', '.join(known) or 'none'}",
        )
    return (folder(kind) / name).read_bytes()
