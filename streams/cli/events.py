"""Verbs about events themselves: publish, tail."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.output import DryRunOption, Form, FormOption, give, say
from streams.cli.session import on_log

if TYPE_CHECKING:
    from streams.broker.port import Record
    from streams.event import Event
    from streams.inspection.decoding import Decoded

app = typer.Typer()


@app.command()
@on_log
def publish(
    topic: Annotated[str, typer.Argument(metavar="TOPIC")],
    file: Annotated[
        str,
        typer.Argument(
            metavar="[FILE|-]", help="CloudEvents in JSON: one, an array, or one a line."
        ),
    ] = "-",
    key: Annotated[
        str,
        typer.Option(
            "--key", metavar="TEXT", help="Keys of records for a source: ${{ data.id }}, say."
        ),
    ] = "",
    dry_run: DryRunOption = False,
) -> None:
    """Publishes CloudEvents to a topic; every one is checked before the first is sent. A topic that
    a pipeline reads as JSON, Avro or changes takes the values themselves."""
    from streams.cli.session import connected, run
    from streams.cli.wording import count

    content = _content(file)

    async def work() -> None:
        async with connected() as client:
            source = await client.source_of(topic)
            events = [] if source else list(read_events(content))
            records = await client.foreign(source, _values(content), key) if source else []
            would = "would publish" if dry_run else "publishing"
            what = count(len(events), "event") if not source else count(len(records), "record")
            say(f"{would} {what} to {topic}")
            if not dry_run:
                await client.publish(topic, events)
                await client.publish_records(records)
        for event in events:
            give(event.id)

    run(work())


def _values(content: bytes) -> list[Any]:
    """What is to be written to a topic of others; raises `UserError` for what is no JSON."""
    import msgspec

    from streams.errors import EventError
    from streams.event_rules import BROKEN_JSON
    from streams.inspection.foreign_writing import values_in

    try:
        return values_in(content)
    except msgspec.DecodeError as error:
        raise EventError(f"not JSON: {error}", code=BROKEN_JSON) from None


def _content(file: str) -> bytes:
    from streams.errors import NotFoundError

    if file == "-":
        return sys.stdin.buffer.read()
    path = Path(file)
    if not path.is_file():
        raise NotFoundError(
            f"no file {path}", help="give an existing file, or - for standard input"
        )
    return path.read_bytes()


def read_events(content: bytes) -> Iterator[Event]:
    """The events in a file: an object, an array of them, or one object a line."""
    from streams.codec.structured import from_json, from_json_batch
    from streams.errors import EventError

    text = content.strip()
    if text.startswith(b"["):
        yield from from_json_batch(text)
        return
    lines = [line for line in text.splitlines() if line.strip()]
    whole = len(lines) == 1 or not all(line.strip().endswith(b"}") for line in lines)
    if whole:
        yield from_json(text)
        return
    for number, line in enumerate(lines, 1):
        try:
            yield from_json(line)
        except EventError as error:
            raise EventError(
                f"line {number}: {error.message}",
                code=error.code,
                field=error.field,
                help=error.help,
            ) from None


@app.command()
@on_log
def tail(
    name: Annotated[str, typer.Argument(metavar="TOPIC|PIPELINE")],
    start: Annotated[
        str, typer.Option("--from", metavar="end|beginning|OFFSET", help="Where to begin.")
    ] = "end",
    most: Annotated[
        int | None, typer.Option("--max", min=1, metavar="N", help="Stop after so many.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Go on with what comes.")
    ] = True,
    output: FormOption = Form.TABLE,
) -> None:
    """Shows events of a topic, or of all topics of a pipeline, decoded; in JSON one a line."""
    from streams.cli.session import connected, run

    if start not in ("end", "beginning") and not start.isdigit():
        raise typer.BadParameter("must be end, beginning, or an offset", param_hint="--from")
    begin: Any = int(start) if start.isdigit() else start

    async def work() -> None:
        async with connected() as client:
            topics = await client.topics_of(name)
            say(f"reading {', '.join(topics)}")
            shown = 0
            decoder = await client.decoder()
            try:
                async for record in client.tail(topics, begin, follow=follow):
                    _print_record(record, await decoder.decoded(record), output)
                    shown += 1
                    if shown == most:
                        return
            finally:
                await decoder.close()

    run(work())


def record_object(record: Record, decoded: Decoded) -> dict[str, Any]:
    """A record for programs: where it stands, and what it says, or its bytes if nobody can tell."""
    from streams.cli.deadletter import readable

    value = decoded.value
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "at": record.timestamp,
        "key": readable(record.key),
        "kind": decoded.kind,
        "event": event_object(decoded.event) if decoded.event else None,
        "fault": decoded.fault or None,
        "value": readable(value) if isinstance(value, bytes) else value,
        **({"cause": decoded.cause} if decoded.cause else {}),
    }


def event_object(event: Event) -> dict[str, Any]:
    """The event as its JSON form has it."""
    import msgspec

    from streams.codec.structured import to_json

    plain: dict[str, Any] = msgspec.json.decode(to_json(event))
    return plain


def _print_record(record: Record, decoded: Decoded, form: Form) -> None:
    import json

    from streams.cli.output import as_yaml
    from streams.cli.wording import time_of_day

    found = record_object(record, decoded)
    if form is Form.JSON:
        give(json.dumps(found, ensure_ascii=False))
        return
    if form is Form.YAML:
        give("---\n" + as_yaml(found))
        return
    event = found["event"]
    if form is Form.NAME:
        give(event["id"] if event else f"{record.topic}/{record.partition}/{record.offset}")
        return
    where = f"{time_of_day(record.timestamp)}  {record.topic}[{record.partition}]@{record.offset}"
    give(f"{where}  {_said(found)}")


def _said(found: dict[str, Any]) -> str:
    """What the record says, in one line."""
    from streams.cli.wording import compact

    event, cause = found["event"], found.get("cause")
    if event is not None:
        data = event.get("data", event.get("data_base64"))
        said = f"{event['type']}  {event['id']}  {compact(data, 100)}"
    elif found["kind"] == "deleted":
        said = f"{found['key']}  (deleted)"
    elif found["kind"] == "unread":
        said = f"{compact(found['value'], 80)}  ({found['fault']})"
    else:
        said = f"{found['key']}  {compact(found['value'], 100)}"
    if cause:
        origin = f"{cause.get('topic')}[{cause.get('partition')}]@{cause.get('offset', '-')}"
        said = f"{cause.get('reason')}: {cause.get('error', '')[:80]}  from {origin}  {said}"
    return said
