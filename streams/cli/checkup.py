"""What `doctor` looks at: the interpreter, the settings, the log, the pipelines in it."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Literal

import msgspec

from streams.broker.cluster import cluster_of
from streams.cli.checkup_cluster import Seen, of_cluster, of_pipeline
from streams.cli.session import connected, settings_of_verb, shown
from streams.cli.wording import count
from streams.errors import StreamsError

DISTRIBUTION = "interlock-streams"
LEAST_PYTHON = (3, 11)
LEAST_SQLITE = (3, 35)
"""`RETURNING` came with it."""
LEAST_DISK = 1 << 30


State = Literal["ok", "warning", "failed"]


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    check: str
    state: State
    detail: str
    next: str = ""


def versions() -> dict[str, str]:
    """The program's version and what it runs on."""
    try:
        own = installed(DISTRIBUTION)
    except PackageNotFoundError:
        own = "0+unknown"
    return {
        "version": own,
        "python": ".".join(map(str, sys.version_info[:3])),
        "sqlite": sqlite3.sqlite_version,
        "platform": sys.platform,
    }


async def examine() -> list[Finding]:
    """Every finding, the good ones too; a check that cannot be made is a finding of its own."""
    findings = [_python(), _sqlite()]
    try:
        settings = settings_of_verb()
    except StreamsError as error:
        return [*findings, Finding("settings", "failed", error.message, error.help)]
    findings.append(Finding("settings", "ok", f"namespace {settings.namespace}"))
    findings.append(_disk(settings.state_dir))
    if not settings.kafka.bootstrap and not settings.log.is_file():
        step = "streams dev starts one; or change into the project's folder"
        detail = f"{shown(settings.log)} is not there"
        return [*findings, Finding("log", "warning", detail, step)]
    try:
        findings += await _log()
    except StreamsError as error:
        findings.append(Finding("log", "failed", f"{error.code}: {error.message}", error.help))
    except (OSError, sqlite3.Error) as error:
        findings.append(Finding("log", "failed", f"{type(error).__name__}: {error}"))
    return findings


def _python() -> Finding:
    text = versions()["python"]
    if sys.version_info[:2] >= LEAST_PYTHON:
        return Finding("python", "ok", text)
    return Finding("python", "failed", text, "install Python 3.11 or later")


def _sqlite() -> Finding:
    text = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info[:2] >= LEAST_SQLITE:
        return Finding("sqlite", "ok", text)
    return Finding("sqlite", "failed", text, "use a Python that is built with SQLite 3.35 or later")


def _disk(folder: Path) -> Finding:
    place = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(place).free
    detail = f"{free / (1 << 30):.1f} GiB free for {shown(folder)}"
    if free >= LEAST_DISK:
        return Finding("disk", "ok", detail)
    return Finding("disk", "warning", detail, "make room: the log stops when the disk is full")


async def _log() -> list[Finding]:
    async with connected() as client:
        cluster = cluster_of(client.log)
        seen = await of_cluster(cluster, client.clock) if cluster is not None else []
        infos = await client.pipelines()
        findings = [Finding("log", "ok", count(len(infos), "pipeline"))]
        if cluster is not None:
            for info in infos:
                seen += await of_pipeline(client, cluster, info, settings_of_verb())
        findings = [*_told(seen), *findings]
        for info in infos:
            name = f"pipeline {info.name}"
            alive = count(len(info.workers), "worker")
            if not info.workers:
                step = "streams dev, or streams worker FILE"
                findings.append(Finding(name, "warning", "no worker is running", step))
            elif not info.keeper_alive:
                detail = f"{alive}, none of them the coordinator"
                step = "start a worker with --keeper yes"
                findings.append(Finding(name, "failed", detail, step))
            else:
                findings.append(Finding(name, "ok", f"{alive}, plan {info.active}"))
            for stage, held in info.pauses.items():
                what = "all of it" if stage == "*" else f"stage {stage}"
                target = info.name if stage == "*" else f"{info.name}/{stage}"
                detail = f"{what} is paused by {held.by or 'somebody'}"
                findings.append(Finding(name, "warning", detail, f"streams resume {target}"))
            letters = [
                each for each in await client.dead_letters(info.name) if each.state == "open"
            ]
            if letters:
                detail = count(len(letters), "open dead letter")
                findings.append(Finding(name, "warning", detail, "streams dlq list"))
        return findings


def _told(seen: Iterable[Seen]) -> list[Finding]:
    """A line for each thing that is right, and for each that is not; the same one but once."""
    found: dict[Finding, None] = {}
    for each in seen:
        if not each.findings and each.check != "brokers":
            found[Finding(each.check, "ok", each.detail)] = None
        for one in each.findings:
            state: State = "failed" if one.severity == "refused" else "warning"
            found[Finding(each.check, state, f"{one.code}: {one.message}", one.next)] = None
    return list(found)
