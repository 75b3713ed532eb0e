"""Schemas by their number or GUID, from a Confluent-compatible schema registry, each asked for once.

A number never changes its meaning, so what was read is kept. A registry that cannot be reached is
no fault of the record: whoever reads waits and asks again.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import msgspec

from streams.codec.foreign_codes import NO_SCHEMA, REGISTRY_AWAY
from streams.errors import EventError, StreamsError

PATIENCE: Final = 3.0
"""Seconds for one question."""
MOST_KEPT: Final = 2_000
MOST_REFERENCES: Final = 200
_NOT_THERE: Final = frozenset({404, 422})


class RegistryAway(StreamsError):
    """The registry cannot be asked now."""

    code = REGISTRY_AWAY
    retriable = True


class _Reference(msgspec.Struct):
    subject: str
    version: int


class _Answer(msgspec.Struct):
    """What the registry says of one schema."""

    schema: str
    number: int = msgspec.field(name="id", default=0)
    kind: str = msgspec.field(name="schemaType", default="AVRO")
    references: list[_Reference] = []


class SchemaRegistry:
    """One registry; `url` may hold credentials."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._client: Any = None
        self._known: dict[int | str, Any] = {}

    async def schema(self, number: int | str) -> Any:
        """The schema of a number or GUID, ready for reading. Raises `EventError` if there is none,
        and `RegistryAway` if nobody can say."""
        found = self._known.get(number)
        if found is None:
            found = await self._parsed(number)
            if len(self._known) >= MOST_KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[number] = found
        return found

    async def newest(self, subject: str) -> tuple[int, Any]:
        """Number and text of a subject's newest schema, for writing."""
        path = f"subjects/{quote(subject, safe='')}/versions/latest"
        answer = await self._answer(path, subject)
        return answer.number, _text(answer, subject)

    async def close(self) -> None:
        """Its connections are closed."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _parsed(self, number: int | str) -> Any:
        from streams.codec.avro import parsed

        named: dict[str, Any] = {}
        kind = "ids" if isinstance(number, int) else "guids"
        answer = await self._answer(f"schemas/{kind}/{number}", number)
        await self._read_references(answer, number, named, set())
        return parsed(_text(answer, number), named)

    async def _read_references(
        self, answer: _Answer, number: int | str, named: dict[str, Any], seen: set[tuple[str, int]]
    ) -> None:
        """What a schema names of others, those first that the others name."""
        from streams.codec.avro import parsed

        for reference in answer.references:
            mark = (reference.subject, reference.version)
            if mark in seen or len(seen) >= MOST_REFERENCES:
                continue
            seen.add(mark)
            path = f"subjects/{quote(reference.subject, safe='')}/versions/{reference.version}"
            other = await self._answer(path, number)
            await self._read_references(other, number, named, seen)
            parsed(_text(other, number), named)

    async def _answer(self, path: str, number: int | str) -> _Answer:
        import httpx

        if self._client is None:
            self._client = httpx.AsyncClient(timeout=PATIENCE)
        try:
            answer = await self._client.get(f"{self._url}/{path}")
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise RegistryAway(f"the schema registry cannot be asked: {why}") from error
        if answer.status_code in _NOT_THERE:
            raise EventError(
                f"the schema registry has no schema {number}",
                code=NO_SCHEMA,
                field="value",
                help="see that `registry` is the one the record's sender uses",
            )
        if answer.status_code != httpx.codes.OK:
            raise RegistryAway(f"the schema registry answers {answer.status_code}")
        try:
            return msgspec.json.decode(answer.content, type=_Answer)
        except msgspec.MsgspecError as error:
            raise RegistryAway(f"the schema registry's answer is none: {error}") from error


def _text(answer: _Answer, number: int | str) -> Any:
    if answer.kind != "AVRO":
        raise EventError(
            f"schema {number} is {answer.kind}, not Avro", code=NO_SCHEMA, field="value"
        )
    return msgspec.json.decode(answer.schema)
