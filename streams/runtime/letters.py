"""Dead letters that fit into the log: whole, or as a pointer to where the original stands."""

from __future__ import annotations

import hashlib

from streams.broker.port import Header, Outgoing

MOST_BYTES = 1_000_000
"""Of a letter with everything; what the log takes is a little more (1 MiB)."""
MOST_BESIDE = 64 * 1024
"""Of a key, and of the original headers, where the value is left out."""


def letter(
    topic: str,
    partition: int,
    key: bytes | None,
    value: bytes | None,
    headers: tuple[Header, ...],
    cause: tuple[Header, ...],
) -> Outgoing:
    """The record for the dead letters. An original that would not fit with its cause stays where
    the cause says it stood; the letter has its size and checksum (G11)."""
    beside = _size(headers)
    if len(key or b"") + len(value or b"") + beside + _size(cause) <= MOST_BYTES:
        return Outgoing(topic, key, value, (*headers, *cause), partition)
    omitted = ["value"]
    pointer = {"size": str(len(value or b"")), "sha256": hashlib.sha256(value or b"").hexdigest()}
    if beside > MOST_BESIDE:
        omitted.append("headers")
        headers = ()
    if len(key or b"") > MOST_BESIDE:
        omitted.append("key")
        key = None
    pointer["omitted"] = ",".join(omitted)
    told = tuple((f"streams-dlq-{name}", text.encode()) for name, text in pointer.items())
    return Outgoing(topic, key, None, (*headers, *cause, *told), partition)


def _size(headers: tuple[Header, ...]) -> int:
    return sum(len(name) + len(value or b"") + 8 for name, value in headers)
