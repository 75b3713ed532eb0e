"""Runs rows of the plan, each on the cluster it needs, and gives a verdict of each."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import msgspec

from streams.clock import Clock, SystemClock
from streams.errors import UserError
from streams.testing.chaos.context import Context
from streams.testing.chaos.ground import Ground
from streams.testing.chaos.rows import FaultRow
from streams.testing.chaos.verdict import Verdict

EXPLANATIONS: dict[str, str] = {
    "C140": """\
**The verdict needs a plaintext listener.** `streams chaos` reads the heads of record batches, which
say what came in which transaction. No client library shows them, so it asks the brokers itself,
without encryption and without a login. Nothing was started.
Next: `streams chaos` without `--kafka` runs on brokers of its own; or name a plaintext listener.""",
}

OWN_ONLY = "not on a cluster that others use"


class Order(msgspec.Struct, frozen=True):
    """What is to be run, and where."""

    folder: Path
    kafka: str | None = None
    """Somebody's cluster; without it brokers of our own are started."""
    options: Mapping[str, str | int | float | bool] = {}
    """Of the client library, for that cluster."""
    nightly: bool = False
    repeats: int | None = None
    minutes: float | None = None
    slack: float = 1.0
    seed: int = 7


async def run(
    rows: Sequence[FaultRow], order: Order, say: Callable[[str], None]
) -> AsyncIterator[Verdict]:
    """Verdicts in the order of the rows; a row that cannot be run says why."""
    _check_reachable(order)
    clock: Clock = SystemClock()
    grounds: dict[int, Ground] = {}
    async with AsyncExitStack() as stack:
        for row in rows:
            verdict = Verdict(row.number, row.fault)
            if order.kafka is not None and not row.safe:
                verdict.skipped = OWN_ONLY
                yield verdict
                continue
            began = clock.monotonic()
            try:
                ground = None
                if order.kafka is None:
                    if row.nodes not in grounds:
                        ground = Ground(
                            order.folder / f"broker-{row.nodes}",
                            nodes=row.nodes,
                            proxied=row.nodes == 1,
                        )
                        stack.push_async_callback(ground.stop)
                        await ground.start()
                        grounds[row.nodes] = ground
                    ground = grounds[row.nodes]
                say(f"row {row.number}: {row.fault}")
                await row.run(_context(row, order, ground, clock, say), verdict)
            except Exception as error:  # noqa: BLE001 - the other rows have their say
                verdict.fail(f"the row itself ended with {type(error).__name__}: {error}")
                say(traceback.format_exc())
            verdict.seconds = clock.monotonic() - began
            yield verdict


def _check_reachable(order: Order) -> None:
    """What tells transactions apart is read without encryption and without a login."""
    protocol = str(order.options.get("security.protocol", "plaintext"))
    if order.kafka is not None and protocol.lower() != "plaintext":
        raise UserError(
            f"faults are judged over a plaintext listener only, not over {protocol}",
            code="C140",
            help="name a plaintext listener of a cluster for tests with --kafka, or leave it out",
        )


def _context(
    row: FaultRow, order: Order, ground: Ground | None, clock: Clock, say: Callable[[str], None]
) -> Context:
    seconds = row.seconds if order.minutes is None else min(row.seconds, order.minutes * 60)
    repeats = order.repeats if order.repeats is not None else (row.repeats if order.nightly else 1)
    return Context(
        folder=order.folder / f"row-{row.number}",
        bootstrap=ground.bootstrap if ground is not None else str(order.kafka),
        direct=ground.direct if ground is not None else str(order.kafka),
        options=order.options,
        repeats=repeats,
        ground=ground,
        seconds=seconds if order.nightly or order.minutes is not None else min(seconds, 30.0),
        slack=order.slack,
        clock=clock,
        chance=Random(order.seed),
        say=say,
    )
