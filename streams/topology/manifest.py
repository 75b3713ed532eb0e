"""The version manifest: immutable revisions of a pipeline, by digest.

Beside the topologies stands `versions/<pipeline>.yaml`:

    pipeline: ingest
    revisions:
      - {version: '1', digest: 0c1d..., file: ingest-1.yaml}
      - {version: '2', digest: 9f3a...}

A file whose version is listed must have the listed digest; `file` (in the same folder) is the
revision's own text, for loading a version that is no longer the current one.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from streams.topology.findings import Finding, TopologyError
from streams.topology.plan import Plan
from streams.topology.source import read_source

FOLDER = "versions"


class Revision(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version of a pipeline, as it was recorded."""

    version: str
    digest: str
    file: str | None = None


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pipeline: str
    revisions: list[Revision] = []


def manifest_of(topologies: Path, pipeline: str) -> Path:
    """Where the manifest of a pipeline stands."""
    return topologies / FOLDER / f"{pipeline}.yaml"


def revisions(manifest: Path) -> tuple[Revision, ...]:
    """What is recorded, oldest first; nothing if there is no manifest. Raises TopologyError."""
    try:
        text = manifest.read_text("utf-8")
    except FileNotFoundError:
        return ()
    source = read_source(text, str(manifest))
    if source.faults or source.root is None:
        raise TopologyError(source.findings or [_damaged(manifest, "the manifest is empty")])
    try:
        found = msgspec.convert(source.root.plain(), _Manifest)
    except msgspec.ValidationError as error:
        raise TopologyError([_damaged(manifest, f"the manifest is damaged: {error}")]) from None
    listed = [revision.version for revision in found.revisions]
    twice = next((version for version in listed if listed.count(version) > 1), None)
    if twice is not None:
        raise TopologyError([_damaged(manifest, f"version {twice} is listed twice")])
    return tuple(found.revisions)


def _damaged(manifest: Path, message: str) -> Finding:
    return Finding("T161", message, str(manifest), hint="restore it from your version control")


def verify(plan: Plan, path: Path) -> None:
    """Raises TopologyError if the plan's version is recorded with another content."""
    refuse_change(plan, revisions(manifest_of(path.parent, plan.pipeline)), path)


def refuse_change(plan: Plan, recorded: tuple[Revision, ...], path: Path) -> Revision | None:
    """The revision that the plan is, None if it is new; TopologyError if its version is taken."""
    known = next((found for found in recorded if found.version == plan.version), None)
    if known is None or known.digest == plan.digest:
        return known
    message = (
        f"`{plan.pipeline}` version {plan.version} is recorded as {known.digest}, "
        f"this is {plan.digest}"
    )
    raise TopologyError(
        [Finding("T160", message, str(path), hint="raise `version:`, or restore the content")]
    )


def record(plan: Plan, topologies: Path, text: str | None = None) -> Path:
    """Adds the plan to its manifest (with its text, if given) and returns the manifest's path.

    Recording the same content again changes nothing; another content under a recorded version is
    refused with TopologyError.
    """
    manifest = manifest_of(topologies, plan.pipeline)
    known = revisions(manifest)
    if refuse_change(plan, known, manifest) is not None:
        return manifest
    manifest.parent.mkdir(parents=True, exist_ok=True)
    file = None
    if text is not None:
        file = f"{plan.pipeline}-{plan.version}.topology.yaml"
        _write(manifest.parent / file, text)
    entries = (*known, Revision(plan.version, plan.digest, file))
    lines = [f"pipeline: '{plan.pipeline}'", "revisions:"]
    for entry in entries:
        beside = f", file: '{entry.file}'" if entry.file else ""
        lines.append(f"  - {{version: '{entry.version}', digest: '{entry.digest}'{beside}}}")
    _write(manifest, "\n".join(lines) + "\n")
    return manifest


def _write(path: Path, text: str) -> None:
    """The file holds the text wholly, or what it held before."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text, "utf-8")
    fresh.replace(path)
