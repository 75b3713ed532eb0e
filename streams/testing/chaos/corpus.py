"""Records that are no good events, each broken in its own way."""

from __future__ import annotations

import json

from streams.broker.port import Header, Outgoing

Headers = tuple[Header, ...]
JSON: Header = ("content-type", b"application/json")
STRUCTURED: Header = ("content-type", b"application/cloudevents+json")


def binary(token: str, **changed: bytes | None) -> Headers:
    """Headers of a good submission, some of them changed or (None) left out."""
    good: dict[str, bytes | None] = {
        "specversion": b"1.0",
        "id": token.encode(),
        "source": b"/malformed",
        "type": b"interlock.job.submit.v1",
        **changed,
    }
    named = tuple((f"ce_{name}", value) for name, value in good.items() if value is not None)
    return (JSON, *named)


def structured(token: str, **changed: object) -> bytes:
    """A good submission in structured mode, some attributes changed."""
    event = {
        "specversion": "1.0",
        "id": token,
        "source": "/malformed",
        "type": "interlock.job.submit.v1",
        **changed,
    }
    return json.dumps(event).encode()


def malformed(topic: str, number: int, run: str) -> Outgoing:
    """One of them, for that topic; its token is in it wherever there is room for one."""
    token = f"{run}.bad.{number}"
    body = json.dumps({"params": {"token": token}}).encode()
    key: bytes | None = token.encode()
    kinds: list[tuple[bytes | None, bytes | None, Headers]] = [
        (key, body, binary(token, id=None)),
        (key, body, binary(token, id=b"  ")),
        (key, body, binary(token, specversion=None)),
        (key, body, binary(token, specversion=b"0.3")),
        (key, body, binary(token, time=b"yesterday")),
        (key, body, binary(token, source=b"/new\r\nline")),
        (key, body, binary(token, subject=b"\xff\xfe")),
        (key, body[:-3], binary(token)),
        (key, b"\xff\xfe" + body, binary(token)),
        (key, b"[1, 2]", binary(token)),
        (key, b"{" * 5_000, binary(token)),
        (key, b'{"params": {"n": NaN}}', binary(token)),
        (key, structured(token, id=7), (STRUCTURED,)),
        (key, structured(token, data={}, data_base64="aGk="), (STRUCTURED,)),
        (key, structured(token, data_base64="%"), (STRUCTURED,)),
        (key, body, binary(token, specversion=b" 1.0")),
        (key, body, ()),
        (None, body, ()),
        (key, None, ()),
        (None, None, ()),
    ]
    key, value, headers = kinds[number % len(kinds)]
    return Outgoing(topic, key, value, headers)


KINDS = 20
