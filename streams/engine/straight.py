"""The step that nearly every delivery takes, made in one go.

A part succeeds, takes all its ways, and each of them leads to a stage: its row and the events that
follow, and nothing to decide. `Flow` makes the same of it, field by field, for every other step as
well; that both write the same bytes is tested.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from streams.engine.messages import StageEvent, encode_stage_event, stage_event
from streams.engine.payload import ROW_LIMIT, Payload, Result
from streams.engine.rows import NOTHING, NULL, Attempt, Row, encode
from streams.topology.plan import Naming, Part, Plan


class Way(msgspec.Struct, frozen=True, gc=False):
    """On to a stage."""

    part: str
    topic: str
    carry: tuple[str, ...]


class Straight(msgspec.Struct, frozen=True):
    """What every such step of one part has in common."""

    plan: Plan
    path: str
    taken: tuple[str, ...]
    closing: bool
    ways: tuple[Way, ...]

    def row(
        self,
        event: StageEvent,
        out: msgspec.Raw,
        meta: Mapping[str, Any],
        started: int,
        ended: int,
        worker: str,
    ) -> bytes:
        """The part's last row."""
        tries, attempt = event.data.tries, event.attempt
        this = Attempt(attempt, event.time, started, ended, "SUCCESS")
        # By position: naming the fields takes seven times as long.
        row = Row(
            "SUCCESS",
            event.epoch,
            event.turn,
            attempt,
            2,
            0,
            event.digest,
            event.root,
            self.taken,
            out if len(out) <= ROW_LIMIT else NOTHING,
            None,
            (*tries, this) if tries else (this,),
            dict(meta) if meta else {},
            worker,
            ended,
        )
        return encode(row, closing=self.closing)

    def events(self, event: StageEvent, out: msgspec.Raw, now: int) -> list[tuple[str, bytes]]:
        """Topic and value of each event that follows."""
        payload, path = event.data, self.path
        stages = {**payload.stages, path: Result("SUCCESS", out if len(out) else NULL)}
        found = []
        for way in self.ways:
            carried = {path: stages[path] for path in way.carry if path in stages}
            onward = Payload(payload.params, payload.data, carried)
            sent = stage_event(self.plan, event, way.part, event.id, onward, now, source=path)
            found.append((way.topic, encode_stage_event(sent)))
        return found


def straight_of(plan: Plan, naming: Naming, part: Part) -> Straight | None:
    """The part's straight step; None if there is none, for some way leads to the keeper or to a part
    that is done in the same step."""
    taken = plan.default_taken(part.path)
    edges = [edge for edge in part.edges if edge.to in taken]
    if any(plan.entries[edge.to] != "topic" for edge in edges):
        return None
    return Straight(
        plan,
        part.path,
        taken,
        not part.edges or any(edge.to not in taken for edge in part.edges),
        tuple(Way(edge.to, naming.stage(edge.to), edge.carry) for edge in edges),
    )
