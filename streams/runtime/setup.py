"""What a pipeline needs in the log is there before a worker starts: topics, layout, plans.

`apply` makes what is missing. A worker does so too for a pipeline that is new here, so that a trial
is one command; it never makes anew what was there once, and in production mode nothing at all.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from streams.broker.cluster import cluster_of
from streams.broker.port import Log, Outgoing, TopicPartition, TopicSpec
from streams.clock import Clock
from streams.errors import LogError, LogUnavailable, TopicError
from streams.observe.logs import get_logger
from streams.runtime.comparing import Finding
from streams.runtime.control import Layout
from streams.runtime.outlook import Outlook, look, read_control
from streams.topology.plan import Naming, Plan

_log = get_logger(__name__)

ANSWER_WITHIN = 10.0
"""Seconds that a worker waits for the cluster's first answer."""


async def apply(
    log: Log,
    naming: Naming,
    plan: Plan,
    clock: Clock,
    partitions: int,
    *,
    production: bool = False,
) -> int:
    """The plan is the one that new jobs begin with; answers the number of partitions.

    What is there already is left as it is. The number of partitions of an existing pipeline wins.
    Raises `TopicError` where something there must not be worked with.
    """
    outlook = await look(log, naming, plan, partitions, production=production)
    refuse(outlook.refused)
    done = await carry_out(log, outlook, clock)
    if outlook.table.store:
        # Somebody looks after the pipeline just now: the next worker's blob store counts.
        await log.publish([Outgoing(naming.control, b"store", None, (), 0)])
    return done


async def prepare(
    log: Log,
    naming: Naming,
    plan: Plan,
    clock: Clock,
    partitions: int,
    *,
    production: bool = False,
    whole: bool = True,
) -> int:
    """A worker may begin; answers the number of partitions. Raises `LogError` with the next step.

    It makes nothing where the plan is not `whole`: that is for those who have all of it.
    """
    cluster = cluster_of(log)
    if cluster is not None:
        await cluster.reach(ANSWER_WITHIN)
    outlook = await look(log, naming, plan, partitions, production=production, role="worker")
    refuse(outlook.refused)
    if cluster is None:
        return await carry_out(log, outlook, clock) if whole else outlook.partitions
    await _refuse_lost(log, outlook)
    _warn(outlook.findings)
    if not whole:
        return outlook.partitions
    if not production:
        return await carry_out(log, outlook, clock)
    if outlook.missing:
        raise _missing([spec.name for spec in outlook.missing], outlook)
    if outlook.table.layout is None or plan.digest not in outlook.table.plans:
        raise LogError(
            f"version {plan.version} of pipeline {naming.pipeline} ({plan.digest}) was not applied",
            code="K089",
            help=outlook.next_step,
        )
    return outlook.partitions


def _warn(findings: Collection[Finding]) -> None:
    """One line a kind: topics made by others may differ in every setting."""
    by_code: dict[str, list[Finding]] = {}
    for finding in findings:
        by_code.setdefault(finding.code, []).append(finding)
    for code, found in by_code.items():
        _log.warning(
            "setup.warning",
            code=code,
            subjects=sorted({each.subject for each in found}),
            error=found[0].message,
            more=len(found) - 1,
        )


async def carry_out(log: Log, outlook: Outlook, clock: Clock) -> int:
    """All changes of the outlook are made; answers the number of partitions."""
    naming, plan, table = outlook.naming, outlook.plan, outlook.table
    await _create(log, outlook.missing, outlook)
    records = []
    if table.layout is None:
        layout = msgspec.json.encode(Layout(outlook.partitions, clock.new_id()))
        records.append(Outgoing(naming.control, b"layout", layout, (), 0))
    if plan.digest not in table.plans:
        key = f"plan/{plan.digest}".encode()
        records.append(Outgoing(naming.control, key, plan.encoded, (), 0))
    if table.active != plan.digest:
        active = msgspec.json.encode({"digest": plan.digest, "at": clock.now()})
        records.append(Outgoing(naming.control, b"active", active, (), 0))
    if records:
        await log.publish(records)
    return outlook.partitions


async def _create(log: Log, specs: Collection[TopicSpec], outlook: Outlook) -> None:
    if not specs:
        return
    try:
        await log.create_topics(list(specs))
    except LogError as error:
        if isinstance(error, LogUnavailable) or error.code != "K062":
            raise
        raise _missing([spec.name for spec in specs], outlook, may_not_be_made=True) from error


def refuse(findings: Collection[Finding]) -> None:
    """Raises `TopicError` with all that is refused; its code and help are those of the first."""
    if not findings:
        return
    first, *rest = findings
    lines = [first.message, *(each.message for each in rest)]
    steps = list(dict.fromkeys(each.next for each in findings if each.next))
    raise TopicError("\n".join(lines), code=first.code, help="\n           ".join(steps))


async def _refuse_lost(log: Log, outlook: Outlook) -> None:
    """What was there once is never made anew in silence: it held work."""
    if outlook.lost:
        raise _missing(outlook.lost, outlook)
    naming = outlook.naming
    ledger = outlook.found.get(naming.ledger)
    if outlook.table.layout is None and ledger is not None:
        places = [TopicPartition(naming.ledger, number) for number in range(ledger.partitions)]
        if any(mark.high for mark in (await log.watermarks(places)).values()):
            raise TopicError(
                f"the ledger {naming.ledger} has rows, and {naming.control} says nothing of them",
                code="K080",
                help=outlook.next_step,
            )


def _missing(
    names: Collection[str], outlook: Outlook, *, may_not_be_made: bool = False
) -> TopicError:
    what = "topic" if len(names) == 1 else f"{len(names)} topics"
    why = ", and may not be made by this user" if may_not_be_made else ""
    return TopicError(
        f"{what} of pipeline {outlook.naming.pipeline} missing{why}: {', '.join(sorted(names))}",
        code="K080",
        help=outlook.next_step,
    )


async def require_layout(log: Log, naming: Naming) -> Layout:
    """The pipeline's layout. Raises `TopicError` where it was never applied."""
    layout = (await read_control(log, naming)).layout
    if layout is None:
        raise TopicError(
            f"pipeline {naming.pipeline} is not set up in this log",
            help="Start a worker with the pipeline's file: it sets up what is missing.",
        )
    return layout
