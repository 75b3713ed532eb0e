"""Verbs about dead letters. Nothing is changed without --yes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.output import (
    Form,
    FormOption,
    PipelineOption,
    ReasonOption,
    give,
    say,
    show,
    show_one,
)
from streams.cli.session import on_log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.client import Client
    from streams.inspection.deadletters import DeadLetter

app = typer.Typer(help="Dead letters: list, show, redrive, discard.", no_args_is_help=True)

CauseOption = Annotated[
    str | None,
    typer.Option("--cause", metavar="C", help="Only letters with this reason or error code."),
]
MaxOption = Annotated[
    int | None, typer.Option("--max", min=1, metavar="N", help="At most so many, the oldest first.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do it; without this it is a dry run.")]
LettersArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[LETTER…]", help="Ids from `dlq list`; else all open."),
]


@app.command("list")
@on_log
def list_letters(
    pipeline: PipelineOption = None,
    cause: CauseOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Redriven and discarded ones as well.")
    ] = False,
    output: FormOption = Form.TABLE,
) -> None:
    """Lists dead letters that nobody has dealt with, newest first."""
    from streams.cli.session import connected, run
    from streams.cli.wording import ago

    async def work() -> None:
        async with connected() as client:
            letters = await client.dead_letters(pipeline)
            now = client.clock.now()
        wanted = [
            each for each in letters if (everything or each.state == "open") and each.fits(cause)
        ]
        columns = {
            "id": lambda each: each.id,
            "pipeline": lambda each: each.pipeline,
            "age": lambda each: ago(each.at, now),
            "state": lambda each: each.state,
            "reason": lambda each: each.reason or "-",
            "stage": lambda each: each.stage or "-",
            "job": lambda each: each.job or "-",
            "error": lambda each: each.error[:60],
        }
        show(
            wanted,
            output,
            columns=columns,
            name=lambda each: each.id,
            plain=letter_object,
            empty="no dead letters",
        )

    run(work())


@app.command("show")
@on_log
def show_letter(
    letter: Annotated[str, typer.Argument(metavar="LETTER")],
    pipeline: PipelineOption = None,
    output: FormOption = Form.TABLE,
) -> None:
    """Shows one dead letter: its cause, its origin, its bytes."""
    from streams.cli.session import connected, run

    async def work() -> None:
        async with connected() as client:
            (found,) = await _named(client, [letter], pipeline)
        show_one(
            found,
            output,
            text=lambda: _letter_text(found),
            name=lambda each: each.id,
            plain=letter_object,
        )

    run(work())


@app.command()
@on_log
def redrive(
    letters: LettersArgument = None,
    pipeline: PipelineOption = None,
    cause: CauseOption = None,
    most: MaxOption = None,
    yes: YesOption = False,
    reason: ReasonOption = "",
    output: FormOption = Form.TABLE,
) -> None:
    """Puts dead letters back: a job runs again from where it failed, an event comes in again."""
    _settle("redrive", letters or [], pipeline, cause, most, yes, reason, output)


@app.command()
@on_log
def discard(
    letters: LettersArgument = None,
    pipeline: PipelineOption = None,
    cause: CauseOption = None,
    most: MaxOption = None,
    yes: YesOption = False,
    reason: ReasonOption = "",
    output: FormOption = Form.TABLE,
) -> None:
    """Sets dead letters aside for good: they can not be redriven any more."""
    _settle("discard", letters or [], pipeline, cause, most, yes, reason, output)


def _settle(
    verb: str,
    names: list[str],
    pipeline: str | None,
    cause: str | None,
    most: int | None,
    yes: bool,
    reason: str,
    form: Form,
) -> None:
    from streams.cli.session import connected, run, user
    from streams.cli.wording import count

    async def work() -> None:
        async with connected() as client:
            found = await _named(client, names, pipeline)
            chosen = [each for each in found if each.state == "open" and each.fits(cause)]
            for each in found:
                if names and each not in chosen:
                    say(f"{each.id} is {each.state}, or has another cause: left alone")
            chosen.sort(key=lambda each: each.at)
            chosen = chosen[:most]
            would = "" if yes else "would "
            say(
                f"{would}{verb} {count(len(chosen), 'dead letter')} in namespace {client.namespace}"
            )
            if yes:
                for info in await client.chosen(pipeline):
                    theirs = [each for each in chosen if each.pipeline == info.name]
                    act = client.redrive if verb == "redrive" else client.discard
                    await act(info, theirs, by=user(), reason=reason)
            elif chosen:
                say("nothing was changed; the same with --yes does it")
        _show_settled(verb, chosen, yes, form)

    run(work())


def _show_settled(verb: str, letters: Sequence[DeadLetter], done: bool, form: Form) -> None:
    results = [
        {"id": each.id, "pipeline": each.pipeline, "job": each.job, "action": verb, "done": done}
        for each in letters
    ]
    if form is Form.TABLE:
        for each in letters:
            give(f"{each.id}  {each.job or each.topic}")
    else:
        show(results, form, columns={}, name=lambda each: str(each["id"]))


async def _named(client: Client, names: list[str], pipeline: str | None) -> list[DeadLetter]:
    """The letters of these ids, or all; ids are unique within a pipeline."""
    from streams.errors import NotFoundError, UserError

    letters = await client.dead_letters(pipeline)
    if not names:
        return letters
    found: list[DeadLetter] = []
    for name in names:
        fits = [each for each in letters if each.id == name]
        if not fits:
            raise NotFoundError(f"no dead letter `{name}` here", help="streams dlq list --all")
        if len(fits) > 1:
            where = ", ".join(each.pipeline for each in fits)
            raise UserError(f"`{name}` is in pipelines {where}", help="give --pipeline")
        found += fits
    return found


def letter_object(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter for programs: texts where the bytes are text, base64 where not."""
    import msgspec

    plain = {
        name: getattr(letter, name)
        for name in letter.__struct_fields__
        if name not in ("key", "value", "headers")
    }
    plain["key"] = readable(letter.key)
    plain["value"] = readable(letter.value)
    plain["headers"] = [{"name": name, "value": readable(raw)} for name, raw in letter.headers]
    return dict(msgspec.to_builtins(plain))


def readable(raw: bytes | None) -> Any:
    """The bytes as text, or as base64 where they are none."""
    from base64 import b64encode

    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(raw).decode()}


def _letter_text(letter: DeadLetter) -> str:
    from streams.cli.wording import moment

    origin = letter.topic or "-"
    if letter.partition is not None:
        origin += f"[{letter.partition}]"
    if letter.offset is not None:
        origin += f"@{letter.offset}"
    facts = {
        "id": letter.id,
        "pipeline": letter.pipeline,
        "state": letter.state + (f" (put back {letter.redriven} times)" if letter.redriven else ""),
        "at": moment(letter.at),
        "reason": letter.reason or "-",
        "stage": letter.stage or "-",
        "job": letter.job or "-",
        "error": letter.error or "-",
        "attempts": str(letter.attempts),
        "came from": origin,
        "key": str(readable(letter.key)),
    }
    lines = [f"{name.ljust(9)} {value}" for name, value in facts.items()]
    lines += ["", *(f"{name}: {readable(raw)}" for name, raw in letter.headers)]
    return "\n".join([*lines, "", str(readable(letter.value))])
