"""Errors as a person reads them: what, why, one next step, a stable code; and the exit code."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from streams.cli.output import coloured, paint, say
from streams.errors import LogUnavailable, NotFoundError, StreamsError, UserError

FAILED, USAGE, NOT_FOUND, UNREACHABLE, DENIED, TIMED_OUT, INTERRUPTED = 1, 2, 3, 4, 5, 7, 130
REFUSED_BY_THE_CLUSTER = frozenset({"K062", "K063"})

EXPLANATIONS: dict[str, str] = {
    "C199": """\
**A fault of the program itself.** What you asked for may be right. Nothing was half done: every
change is one event or none.
Next: run the same with `--debug` and report what it prints.""",
}


class Verbs(TyperGroup):
    """The root command: every error ends here, in house style, with its exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """`--debug` may stand anywhere; `dev` has its own meaning for it, and gets it as well."""
        if "--debug" in args:
            ctx.ensure_object(dict)["debug"] = True
            if "dev" not in args:
                args = [arg for arg in args if arg != "--debug"]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Runs the verb; raises `typer.Exit` with the code that conventions.md §4 gives."""
        try:
            return super().invoke(ctx)
        except StreamsError as error:
            if (ctx.obj or {}).get("debug"):
                traceback.print_exc()
            say(described(error))
            raise typer.Exit(exit_code(error)) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            sys.stderr.close()
            raise typer.Exit(0) from None
        except Exception as error:
            if hasattr(error, "exit_code") or isinstance(error, typer.Abort):
                raise  # the command line library's own: usage errors, exits
            if (ctx.obj or {}).get("debug"):
                raise
            kind = type(error).__name__
            say(_lines("C199", f"{kind}: {error}", "run the same with --debug, and report it"))
            raise typer.Exit(FAILED) from None


def exit_code(error: StreamsError) -> int:
    """The exit code that scripts rely on."""
    if isinstance(error, NotFoundError):
        return NOT_FOUND
    if isinstance(error, LogUnavailable):
        return UNREACHABLE
    if error.code in REFUSED_BY_THE_CLUSTER:
        return DENIED
    return USAGE if isinstance(error, UserError) else FAILED


def described(error: StreamsError) -> str:
    """The whole error; of a topology or settings error every finding."""
    render = getattr(error, "render", None)
    if callable(render):
        return str(render())
    return _lines(error.code, error.message, error.help)


def _lines(code: str, message: str, help: str) -> str:
    first, *rest = message.splitlines() or [""]
    head = paint(f"error[{code}]", "failed", on=coloured(sys.stderr))
    lines = [f"{head}: {first}", *(f"   | {line}" for line in rest)]
    if help:
        lines.append(f"   = next: {help}")
    return "\n".join(lines)
