"""`recover`: positions that a pipeline's groups have lost, shown, and set anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.output import Form, FormOption, PipelineOption, say, show
from streams.cli.session import on_log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.client import Client
    from streams.inspection.pipelines import PipelineInfo
    from streams.inspection.recovery import Recovery, Run

    Found = tuple[str, Recovery]

app = typer.Typer()

LOST = 1
"""Exit code where something is lost and was not set."""
MOST_RUNS_SHOWN = 3


@app.command()
@on_log
def recover(
    pipeline: PipelineOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Positions that are not lost as well.")
    ] = False,
    apply: Annotated[
        bool,
        typer.Option("--apply", help="Set the new positions; without this nothing is changed."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask, though the target is another machine.")
    ] = False,
    output: FormOption = Form.TABLE,
) -> None:
    """Shows positions that a pipeline's groups have lost, and where they may go on.

    A position that is missing is found out anew from the ledger: what is finished is not done
    again. Of one below what is left of a partition the deleted offsets are named. Exit code 1 where
    something is lost and was not set. The groups' workers have to be stopped for --apply.
    """
    from streams.cli.planning import require_meant
    from streams.cli.session import connected, run, settings_of_verb, target
    from streams.cli.wording import count
    from streams.inspection import recovery

    settings = settings_of_verb()
    if apply:
        require_meant(settings, sure=yes)

    async def work() -> bool:
        async with connected() as client:
            found = [
                (info.name, each)
                for info in await client.chosen(pipeline)
                for each in await _recoveries(client, info, settings.kafka.registry)
            ]
            lost = [each for each in found if each[1].stand.is_lost]
            would = "set" if apply else "would set"
            say(f"{would} {count(len(lost), 'position')} on {target(settings)}")
            if apply:
                await recovery.apply(client.log, [each for _, each in lost])
        _print(found if everything else lost, output)
        if lost and not apply:
            say("nothing was changed; the same with --apply does it, once the workers are stopped")
        return bool(lost) and not apply

    if run(work()):
        raise typer.Exit(LOST)


async def _recoveries(client: Client, info: PipelineInfo, registry: str) -> Sequence[Recovery]:
    from streams.inspection.recovery import recoveries

    return await recoveries(client.log, info.naming, client.clock.now(), registry)


def _print(found: Sequence[Found], form: Form) -> None:
    columns = {
        "group": lambda each: each[1].stand.group,
        "partition": lambda each: _place(each[1]),
        "stands at": lambda each: _number(_offset(each[1].stand.committed)),
        "low": lambda each: str(each[1].stand.marks.low),
        "high": lambda each: str(each[1].stand.marks.high),
        "state": lambda each: each[1].stand.state,
        "goes on at": lambda each: _number(_offset(each[1].proposed)),
        "finished": lambda each: str(each[1].finished) if each[1].proposed else "-",
        "left": lambda each: str(each[1].left) if each[1].proposed else "-",
        "deleted": lambda each: _runs(each[1].deleted),
    }
    show(
        found,
        form,
        columns=columns,
        name=lambda each: f"{each[1].stand.group}:{_place(each[1])}",
        plain=as_object,
        empty="every group stands where it should",
    )
    live = {each.stand.group: each.stand.members for _, each in found if each.stand.is_lost}
    for group, members in live.items():
        if members:
            say(f"{group} has members: {', '.join(members)}")
    again = sum(each.again for _, each in found)
    if again:
        say(f"{again} finished events cannot be listed, and would be done again")


def as_object(found: Found) -> dict[str, Any]:
    """What scripts read."""
    pipeline, each = found
    stand = each.stand
    return {
        "pipeline": pipeline,
        "group": stand.group,
        "topic": stand.place.topic,
        "partition": stand.place.partition,
        "state": stand.state,
        "position": _offset(stand.committed),
        "low": stand.marks.low,
        "high": stand.marks.high,
        "begun_at": stand.begun,
        "members": list(stand.members),
        "new_position": _offset(each.proposed),
        "finished": each.finished,
        "again": each.again,
        "left": each.left,
        "deleted": [{"first": first, "last": last} for first, last in each.deleted],
    }


def _place(each: Recovery) -> str:
    return f"{each.stand.place.topic}/{each.stand.place.partition}"


def _offset(position: Any) -> int | None:
    return None if position is None else int(position.offset)


def _number(offset: int | None) -> str:
    return "-" if offset is None else str(offset)


def _runs(runs: Sequence[Run]) -> str:
    if not runs:
        return "-"
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    shown = ", ".join(texts[:MOST_RUNS_SHOWN])
    more = len(texts) - MOST_RUNS_SHOWN
    return f"{shown}, and {more} more" if more > 0 else shown
