"""Secrets: values by name, known to the process, shown to nobody.

A secret `api_key` is the variable `STREAMS_SECRET_API_KEY`, or a file `api_key` in the folder of
mounted secrets (the file wins: it is how clusters rotate). Rows, logs and dead letters hold no
value: whatever is written about a failure goes through `redact`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, quote_plus

from streams.errors import UserError

PREFIX = "STREAMS_SECRET_"
MASK = "***"
SHORTEST = 4
"""Shorter values are not searched for: they would turn up everywhere."""
SHORTEST_REFUSED = 8
"""Only values at least this long are refused in a stage's answer, for the same reason."""
_LARGEST_FILE = 1024 * 1024

EXPLANATIONS: dict[str, str] = {
    "C001": "**A secret is not set.** Set the variable `STREAMS_SECRET_<NAME>` (upper case, `-` "
    "written as `_`), or mount a file of that name into the folder of secrets. Values never stand "
    "in topologies.",
    "C002": "**A secret is not among those of the pipeline.** A stage sees only secrets that its "
    "topology names in `${{ secrets.x }}`.",
    "C003": "**A secret's file cannot be used**: it is unreadable, larger than 1 MiB or not UTF-8.",
}


class Secrets:
    """Values by name. Names are equal whatever their case, and `-` is `_`."""

    __slots__ = ("_pattern", "_values")

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = {_plain(name): value for name, value in (values or {}).items()}
        forms = {form for value in self._values.values() for form in _forms(value)}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    @classmethod
    def load(cls, environment: Mapping[str, str], folder: Path | None = None) -> Secrets:
        """What the environment and the folder of mounted files hold now."""
        values = {
            name.removeprefix(PREFIX): value
            for name, value in environment.items()
            if name.startswith(PREFIX)
        }
        values = {_plain(name): value for name, value in values.items()}
        if folder is not None and folder.is_dir():
            for file in sorted(folder.iterdir()):
                # Mounted volumes keep their bookkeeping beside the files: `..data`.
                if not file.name.startswith(".") and file.is_file():
                    values[_plain(file.name)] = _read(file)
        return cls(values)

    def names(self) -> tuple[str, ...]:
        """Names of all secrets there are, in lower case."""
        return tuple(sorted(name.lower() for name in self._values))

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that nobody has set."""
        return [name for name in names if _plain(name) not in self._values]

    def value(self, name: str) -> str:
        """The value; a missing one is an error that says how to set it."""
        try:
            return self._values[_plain(name)]
        except KeyError:
            raise UserError(
                f"secret {name!r} is not set",
                code="C001",
                help=f"set {PREFIX}{_plain(name)}, or mount a file named {name!r}",
            ) from None

    def only(self, names: Iterable[str]) -> dict[str, str]:
        """Values of the secrets a plan names, for its expressions; all of them must be set."""
        return {name: self.value(name) for name in names}

    def redact(self, text: str) -> str:
        """The text with every secret value replaced, also in base64, percent or JSON form."""
        return self._pattern.sub(MASK, text) if self._pattern is not None else text

    def found_in(self, data: bytes) -> str | None:
        """The name of a secret whose value stands in `data`, if one does."""
        for name, value in self._values.items():
            if len(value) >= SHORTEST_REFUSED and any(
                form.encode() in data for form in (value, _json(value))
            ):
                return name.lower()
        return None

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Secrets({', '.join(self.names())})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not pickled")


def _plain(name: str) -> str:
    return name.upper().replace("-", "_")


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise UserError(f"the file of secret {file.name!r} is over 1 MiB", code="C003")
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        # The reason's own text may quote bytes of the file; its type is enough.
        raise UserError(
            f"the file of secret {file.name!r} cannot be read ({type(error).__name__})",
            code="C003",
        ) from None


def _json(value: str) -> str:
    return json.dumps(value)[1:-1]


def _forms(value: str) -> set[str]:
    """The value as it may turn up in a text: plain, quoted, or inside something in base64."""
    if len(value) < SHORTEST:
        return set()
    forms = {value, _json(value), repr(value)[1:-1], quote_plus(value)}
    for percent in (quote(value, safe=""), quote(value), quote_plus(value)):
        forms |= {percent, re.sub(r"%[0-9A-F]{2}", lambda hit: hit[0].lower(), percent)}
    forms |= {line for line in value.splitlines() if len(line) >= SHORTEST_REFUSED}
    data = value.encode("utf-8", "surrogateescape")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        forms.add(encode(data).decode())
        forms |= {form for lead in range(3) if len(form := _inside(data, lead, encode)) >= 6}
    return {form for form in forms if len(form) >= SHORTEST}


def _inside(data: bytes, lead: int, encode: Callable[[bytes], bytes]) -> str:
    """The letters of a base64 text that depend on `data` alone when `lead` bytes (mod 3) and more
    come before it and others after it, as in the user:password of a header."""
    text = encode(b"\0" * lead + data).decode()
    first = -(-lead * 8 // 6)
    whole = (lead + len(data)) * 8 // 6
    return text[first:whole]
