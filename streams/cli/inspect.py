"""Verbs about the program itself: config, explain, doctor, version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.output import Form, FormOption, say, show, show_one
from streams.cli.session import on_log

if TYPE_CHECKING:
    from streams.cli.checkup import Finding

app = typer.Typer()
config = typer.Typer(help="Settings of this process.", no_args_is_help=True)


@config.command("show")
@on_log
def show_config(
    origin: Annotated[
        bool, typer.Option("--origin", help="Say where each value comes from.")
    ] = False,
    output: FormOption = Form.TABLE,
) -> None:
    """Shows every setting as it is in force here, secrets masked."""
    from streams.cli.session import settings_of_verb

    items = [
        {"key": key, "value": value, "origin": place}
        for key, (value, place) in settings_of_verb().origins().items()
    ]
    if not origin:
        items = [{"key": each["key"], "value": each["value"]} for each in items]
    columns = {"key": lambda each: each["key"], "value": lambda each: each["value"]}
    if origin:
        columns["origin"] = lambda each: each["origin"]
    show(items, output, columns=columns, name=lambda each: each["key"])


@app.command()
def explain(
    code: Annotated[str | None, typer.Argument(metavar="CODE", help="As in `error[T104]`.")] = None,
    output: FormOption = Form.TABLE,
) -> None:
    """Explains an error code: what it means, why, and the next step. Without a code: lists all."""
    from difflib import get_close_matches

    from streams.cli.explanations import all_explanations
    from streams.errors import NotFoundError

    known = all_explanations()
    if code is None:
        items = [{"code": key, "text": text} for key, text in sorted(known.items())]
        columns = {
            "code": lambda each: each["code"],
            "says": lambda each: _first_words(each["text"]),
        }
        show(items, output, columns=columns, name=lambda each: each["code"])
        return
    wanted = code.upper().removeprefix("ERROR[").rstrip("]")
    if wanted not in known:
        close = get_close_matches(wanted, list(known), 3)
        near = f"near it: {', '.join(close)}" if close else "streams explain lists all"
        raise NotFoundError(f"no error code `{code}`", help=near)
    show_one(
        {"code": wanted, "text": known[wanted]},
        output,
        text=lambda: f"{wanted}\n\n{known[wanted].strip()}",
        name=lambda each: each["code"],
    )


def _first_words(text: str) -> str:
    first = text.strip().splitlines()[0].lstrip("# ").replace("**", "")
    return first if len(first) <= 80 else first[:79] + "…"


@app.command()
@on_log
def doctor(output: FormOption = Form.TABLE) -> None:
    """Looks whether everything here is as it has to be; exit code 1 if something is not."""
    from streams.cli.checkup import examine
    from streams.cli.session import run

    findings = run(examine())
    columns = {
        "check": lambda each: each.check,
        "state": lambda each: each.state,
        "detail": lambda each: each.detail,
    }
    show(findings, output, columns=columns, name=lambda each: each.check)
    if output is Form.TABLE:
        _say_next_steps(findings)
    if any(each.state == "failed" for each in findings):
        raise typer.Exit(1)


def _say_next_steps(findings: list[Finding]) -> None:
    for check, step in dict.fromkeys((each.check, each.next) for each in findings if each.next):
        say(f"   = {check}: {step}")


@app.command()
def version(output: FormOption = Form.TABLE) -> None:
    """Prints the version."""
    from streams.cli.checkup import versions

    show_one(
        versions(),
        output,
        text=lambda: versions()["version"],
        name=lambda each: each["version"],
    )
