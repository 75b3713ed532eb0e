"""What `plan` and `apply` do: topologies held against the log, shown, and carried out."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from streams.cli.output import Form, builtins, coloured, give, paint, say, show, show_one, table
from streams.cli.session import settings_of_verb, target
from streams.cli.wording import count
from streams.errors import UserError

if TYPE_CHECKING:
    from streams.broker.port import Log
    from streams.runtime.comparing import Finding
    from streams.runtime.outlook import Outlook
    from streams.settings import Settings
    from streams.topology.load import Topology

CHANGED = 2
"""Exit code of `--detailed-exitcode` where there are changes."""

EXPLANATIONS: dict[str, str] = {
    "C130": """\
**The target is not this machine.** Where nobody sits at a terminal, what changes another machine's
log has to be meant so: a script with the wrong settings would change the wrong cluster.
Next: look at the target that is printed, and repeat with `--yes`.""",
    "C131": """\
**Not confirmed.** Nothing was changed.""",
}


async def outlooks(files: Sequence[Path]) -> list[Outlook]:
    """Every pipeline of the files against the log; nothing is changed, no log is made."""
    settings = settings_of_verb()
    async with _log(settings, make=False) as log:
        return await _look(log, _topologies(files), settings)


async def applied(files: Sequence[Path], *, sure: bool) -> tuple[list[Outlook], list[Outlook]]:
    """The changes are made; the pipelines as they were, and as they are now. Nothing was changed
    if one of them is refused."""
    from streams.clock import SystemClock
    from streams.runtime.setup import apply, refuse
    from streams.topology.plan import Naming

    settings = settings_of_verb()
    topologies = _topologies(files)
    require_meant(settings, sure=sure)
    async with _log(settings, make=True) as log:
        before = await _look(log, topologies, settings)
        refuse([finding for each in before for finding in each.refused])
        for topology in topologies:
            await apply(
                log,
                Naming(settings.namespace, topology.plan.pipeline),
                topology.plan,
                SystemClock(),
                settings.partitions,
                production=settings.kafka.production,
            )
        return before, await _look(log, topologies, settings)


def require_meant(settings: Settings, *, sure: bool) -> None:
    """Whoever acts on another machine has said so; raises `UserError` if not."""
    from streams.broker.cluster import on_this_machine

    bootstrap = settings.kafka.bootstrap
    if sure or not bootstrap or on_this_machine(bootstrap):
        return
    if not sys.stdin.isatty():
        raise UserError(
            f"{bootstrap} is not this machine, and nobody is here to confirm",
            code="C130",
            help="repeat with --yes",
        )
    if not typer.confirm(f"apply to {bootstrap}?", err=True):
        raise UserError("not confirmed", code="C131", help="nothing was changed")


def _topologies(files: Sequence[Path]) -> list[Topology]:
    from streams.cli.project import application

    # Of several versions in the files the last one counts, as for a worker.
    loaded = application(files).topologies
    return list({each.plan.pipeline: each for each in loaded}.values())


async def _look(log: Log, topologies: Sequence[Topology], settings: Settings) -> list[Outlook]:
    import msgspec

    from streams.blobs import BlobStore
    from streams.runtime.blob_home import about_store
    from streams.runtime.outlook import look
    from streams.topology.plan import Naming

    found = [
        await look(
            log,
            Naming(settings.namespace, topology.plan.pipeline),
            topology.plan,
            settings.partitions,
            production=settings.kafka.production,
        )
        for topology in topologies
    ]
    about = about_store(log, BlobStore(settings.blobs))
    return [
        msgspec.structs.replace(
            each, findings=(*each.findings, *about) if n == 0 else each.findings
        )
        for n, each in enumerate(found)
    ]


@asynccontextmanager
async def _log(settings: Settings, *, make: bool) -> AsyncIterator[Log]:
    """The log of the settings, reached. One that is not there is made, or taken to be empty."""
    from streams.broker.cluster import cluster_of
    from streams.broker.local import LocalLog
    from streams.broker.opening import open_log
    from streams.cli.session import REACHED_WITHIN
    from streams.clock import SystemClock

    there = bool(settings.kafka.bootstrap) or settings.log.is_file()
    clock = SystemClock()
    log = open_log(settings, clock) if there or make else LocalLog.open(None, clock=clock)
    try:
        cluster = cluster_of(log)
        if cluster is not None:
            await cluster.reach(REACHED_WITHIN)
        yield log
    finally:
        await log.close()


def as_object(found: Sequence[Outlook]) -> dict[str, Any]:
    """What scripts read: everything that the pipelines need, and what is different."""
    topics = [_topic(each, spec) for each in found for spec in each.wanted]
    return {
        "target": target(settings_of_verb()),
        "changes": [
            {"pipeline": each.naming.pipeline, **builtins(change)}
            for each in found
            for change in each.changes
        ],
        "findings": [
            {"pipeline": each.naming.pipeline, **builtins(finding)}
            for each in found
            for finding in each.findings
        ],
        "pipelines": [
            {
                "pipeline": each.naming.pipeline,
                "version": each.plan.version,
                "digest": each.plan.digest,
                "active": each.table.active or None,
                "partitions": each.partitions,
            }
            for each in found
        ],
        "topics": topics,
        "partitions": sum(topic["partitions"] for topic in topics),
        "reads": sorted({name for each in found for name in each.sources}),
        "consumer_groups": [group for each in found for group in each.groups],
        "transactional_ids": _transactional_ids(found),
        "acls": _acls(found),
    }


def _topic(outlook: Outlook, spec: Any) -> dict[str, Any]:
    there = outlook.found.get(spec.name)
    state = "missing" if spec.name not in outlook.found else "present" if there else "hidden"
    return {
        "name": spec.name,
        "pipeline": outlook.naming.pipeline,
        "state": state,
        "partitions": spec.partitions,
        "replicas": None if spec.replicas == -1 else spec.replicas,
        "settings": spec.settings,
    }


def _transactional_ids(found: Sequence[Outlook]) -> list[dict[str, str]]:
    from streams.runtime.access import PUBLISHERS, transactional_ids

    starts = [start for each in found for start in transactional_ids(each.groups)]
    return [{"name": start, "pattern": "prefixed"} for start in (*starts, PUBLISHERS)]


def _acls(found: Sequence[Outlook]) -> list[dict[str, Any]]:
    """Each once, though several pipelines may need it."""
    distinct = dict.fromkeys(acl for each in found for acl in each.acls)
    return [builtins(acl) for acl in distinct]


def print_plan(found: Sequence[Outlook], form: Form) -> None:
    """Changes as a table, or all there is as an object; what is not right on stderr."""
    if form in (Form.JSON, Form.YAML):
        show_one(as_object(found), form, text=str, name=str)
        return
    changes = [change for each in found for change in each.changes]
    show(
        changes,
        form,
        columns={
            "change": lambda each: each.kind,
            "subject": lambda each: each.subject,
            "detail": lambda each: each.detail,
        },
        name=lambda each: each.subject,
        empty="nothing to change",
    )
    for each in found:
        topics = count(len(each.wanted), "topic")
        partitions = sum(spec.partitions for spec in each.wanted)
        say(
            f"{each.naming.pipeline}: {topics} with {count(partitions, 'partition')},"
            f" {count(len(each.groups), 'consumer group')}"
        )
    print_findings([finding for each in found for finding in each.findings])


def print_findings(findings: Sequence[Finding]) -> None:
    """Each with its effect and what mends it."""
    for finding in findings:
        refused = finding.severity == "refused"
        word, style = ("error", "failed") if refused else ("warning", "warning")
        head = paint(f"{word}[{finding.code}]", style, on=coloured(sys.stderr))
        say(f"{head}: {finding.message}")
        if finding.next:
            say(f"   = next: {finding.next}")


def print_applied(before: Sequence[Outlook], after: Sequence[Outlook], form: Form) -> None:
    """What was changed, and what is still not right."""
    if form in (Form.JSON, Form.YAML):
        told = as_object(after)
        told["changes"] = as_object(before)["changes"]
        show_one(told, form, text=str, name=str)
        return
    rows = [[each.kind, each.subject, each.detail] for one in before for each in one.changes]
    if form is Form.NAME:
        for row in rows:
            give(row[1])
    elif rows:
        for line in table(rows, ["done", "subject", "detail"]):
            give(line)
    else:
        say("nothing to change")
    print_findings([finding for each in after for finding in each.findings])
