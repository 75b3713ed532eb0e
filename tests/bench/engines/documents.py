"""The documents that every engine gets, byte for byte the same but for their numbers."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

HEADERS: list[tuple[str, str | bytes | None]] = [
    ("content-type", b"application/cloudevents+json; charset=UTF-8")
]


def key_of(number: int) -> str:
    return f"doc-{number:08d}"


def number_of(key: bytes) -> int:
    """Of a record that is about a document, in any engine's topics."""
    return int(key[4:12])


def document(number: int, sent: float) -> dict[str, Any]:
    """What the stages work on."""
    return {
        "doc": key_of(number),
        "n": number,
        "t0": sent,
        "stage": 0,
        "title": "A document of some length",
        "tags": ["alpha", "beta", "gamma"],
        "meta": {"lang": "en", "pages": 12, "score": 0.731},
        "text": "lorem ipsum dolor sit amet " * 20,
    }


def cloudevent(number: int, sent: float, **extensions: str) -> bytes:
    """The document as a structured CloudEvent of about 1 KB."""
    event = {
        "specversion": "1.0",
        "id": uuid.uuid4().hex,
        "source": "/bench/feed",
        "type": "org.bench.doc.created",
        "subject": key_of(number),
        "time": "2026-11-21T08:00:00Z",
        "datacontenttype": "application/json",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        **extensions,
        "data": document(number, sent),
    }
    return msgspec.json.encode(event)
