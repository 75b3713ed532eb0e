"""The data of a stage's event: what it needs and no more.

The frozen snapshot of the job (its parameters and submitted data) and the outputs that somebody
further on still reads. A value may stand as a reference to the blob store, `{"$blob": {...}}`;
whoever needs the value resolves it first (a blob is I/O, which the engine does not do).
"""

from __future__ import annotations

from typing import Any

import msgspec

from streams.engine.rows import NULL, Attempt, Failure, Status
from streams.errors import EventError

INLINE_LIMIT = 48 * 1024
"""Event data above this goes to the blob store."""
ROW_LIMIT = 1024
"""Outputs up to this stand in the row."""
BLOB = b'{"$blob":'


class BlobRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """A value in the blob store, named by its content."""

    url: str
    size: int
    sha256: str
    type: str = "application/json"


class Result(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How an earlier part ended, as its dependents see it."""

    status: Status
    out: msgspec.Raw = NULL
    err: Failure | None = None


class Payload(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Data of every event between parts."""

    params: dict[str, Any] = {}
    data: msgspec.Raw = NULL
    stages: dict[str, Result] = {}
    ledger: dict[str, Any] | None = None
    """The job's view, for parts that asked for it."""
    tries: tuple[Attempt, ...] = ()
    """Earlier attempts of the same part."""


class JobIdentity(msgspec.Struct, frozen=True):
    """Who an event belongs to; `job.*` in expressions."""

    id: str
    pipeline: str
    version: str
    scope: str
    epoch: int
    turn: int
    attempt: int
    tenant: str = ""
    created: int = 0


class BlobMissing(Exception):
    """An expression needs a value that is still in the blob store: resolve it, then ask again."""

    def __init__(self, ref: BlobRef) -> None:
        super().__init__(ref.url)
        self.ref = ref


_payload = msgspec.json.Decoder(Payload)
_encoder = msgspec.json.Encoder()
_blob = msgspec.json.Decoder(dict[str, BlobRef])


def decode(data: bytes | None) -> Payload:
    """The payload in an event's data. Raises `EventError` if it is none."""
    try:
        return _payload.decode(data) if data else Payload()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EventError(f"not a payload: {error}", code="V048", field="data") from None


def encode(payload: Payload) -> bytes:
    return _encoder.encode(payload)


def blob_of(raw: msgspec.Raw) -> BlobRef | None:
    """The reference, if the value is one."""
    data = bytes(raw)
    return _blob.decode(data)["$blob"] if data.startswith(BLOB) else None


def reference(ref: BlobRef) -> msgspec.Raw:
    return msgspec.Raw(_encoder.encode({"$blob": ref}))


def value_of(raw: msgspec.Raw, blobs: dict[str, Any] | None = None) -> Any:
    """The value; of a reference the one in `blobs` (by URL), else `BlobMissing`."""
    ref = blob_of(raw)
    if ref is None:
        return msgspec.json.decode(raw) if len(raw) else None
    if blobs is None or ref.url not in blobs:
        raise BlobMissing(ref)
    return blobs[ref.url]


def environment(
    payload: Payload, job: JobIdentity, reads: frozenset[str], blobs: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Names that expressions see. `reads` holds the roots an expression uses, so that nothing
    else is decoded: params, data, payload (the same), stages, job, facts, metadata, ledger."""
    names: dict[str, Any] = {}
    if "params" in reads:
        names["params"] = payload.params
    if "data" in reads or "payload" in reads:
        names["data"] = names["payload"] = value_of(payload.data, blobs)
    if "job" in reads:
        names["job"] = msgspec.to_builtins(job)
    if "stages" in reads:
        names["stages"] = {
            path: stage_names(result, blobs) for path, result in payload.stages.items()
        }
    view = payload.ledger or {}
    for root in ("facts", "metadata"):
        if root in reads:
            names[root] = view.get(root, {})
    if "ledger" in reads:
        names["ledger"] = view
    return names


RESERVED_STAGE_NAMES = ("status", "outputs", "errors", "attempts")


def stage_names(result: Result, blobs: dict[str, Any] | None = None) -> dict[str, Any]:
    """`stages.<id>` in expressions: status, outputs, errors, and the output's own fields."""
    value = value_of(result.out, blobs)
    names: dict[str, Any] = dict(value) if isinstance(value, dict) else {}
    names["status"] = result.status
    names["outputs"] = value
    names["errors"] = msgspec.to_builtins(result.err) if result.err else None
    return names
