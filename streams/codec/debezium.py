"""Changes of database rows, as Debezium's envelope tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from streams.codec.foreign_codes import NOT_A_CHANGE
from streams.errors import EventError

OPERATIONS: Final = frozenset("crud")
"""Created, read in a snapshot, updated, deleted."""
DELETED: Final = "d"
FIELDS: Final = ("op", "before", "after", "source", "ts_ms", "transaction")


def change_of(value: Any) -> dict[str, Any]:
    """The change in an envelope, with or without the schema that the JSON converter puts around
    it. Raises `EventError` for anything else."""
    envelope = unwrapped(value)
    if not isinstance(envelope, Mapping) or "op" not in envelope:
        raise _no_change("it has no `op`")
    operation = envelope["op"]
    if not isinstance(operation, str) or operation not in OPERATIONS:
        raise _no_change(f"`op` is {str(operation)[:40]!r}, none of c, r, u, d")
    row = "before" if operation == DELETED else "after"
    if row not in envelope:
        raise _no_change(f"`op` is {operation!r}, and there is no `{row}`")
    return {name: envelope[name] for name in FIELDS if name in envelope}


def unwrapped(value: Any) -> Any:
    """What stands below `payload`, where the JSON converter sends the schema along."""
    if isinstance(value, Mapping) and value.keys() == {"schema", "payload"}:
        return value["payload"]
    return value


def _no_change(why: str) -> EventError:
    return EventError(
        f"the record is no change of Debezium's: {why}",
        code=NOT_A_CHANGE,
        field="value",
        help="for rows without the envelope say `format: json` or `format: avro`",
    )
