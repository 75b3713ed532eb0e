"""The plan of faults: which rows there are, what each needs, and how often it is repeated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from streams.testing.chaos import (
    rows_broker,
    rows_input,
    rows_network,
    rows_soak,
    rows_state,
    rows_topics,
    rows_workers,
)
from streams.testing.chaos.context import Context
from streams.testing.chaos.verdict import Verdict

Run = Callable[[Context, Verdict], Awaitable[None]]


class FaultRow(msgspec.Struct, frozen=True):
    """One line of the plan."""

    number: int
    fault: str
    run: Run
    repeats: int
    """In a whole nightly run."""
    nodes: int = 1
    safe: bool = False
    """Whether it touches nothing but its own workers and topics: it may run on any cluster."""
    seconds: float = 60.0
    """How long, where it is measured in time."""


ROWS = {
    row.number: row
    for row in (
        FaultRow(
            1, "kill -9 a worker, also at 7 named points", rows_workers.killed, 200, safe=True
        ),
        FaultRow(2, "SIGTERM with work in flight", rows_workers.terminated, 50, safe=True),
        FaultRow(3, "SIGSTOP for three sessions, at 7 points", rows_workers.frozen, 50, safe=True),
        FaultRow(
            4, "kill -9 of all workers, back after 60 s", rows_workers.all_killed, 5, safe=True
        ),
        FaultRow(5, "broker restarted, broker killed", rows_broker.broker_restarted, 10),
        FaultRow(
            6,
            "kill -9 of leader, coordinators, controller",
            rows_broker.roles_killed,
            10,
            nodes=3,
        ),
        FaultRow(7, "two of three brokers away for 60 s", rows_broker.two_away, 1, nodes=3),
        FaultRow(8, "cut between workers and broker", rows_network.cut, 10, seconds=120.0),
        FaultRow(9, "200 ms latency, broken connections", rows_network.weather, 1, seconds=600.0),
        FaultRow(10, "EndTxn or its answer comes late", rows_network.late_end, 50),
        FaultRow(11, "a transaction's coordinator does not answer", rows_network.hang, 5),
        FaultRow(17, "full disk of one broker, then of two", rows_broker.disks_full, 3, nodes=3),
        FaultRow(18, "workers with wrong clocks", rows_workers.wrong_clocks, 1),
        FaultRow(19, "events that harm their worker", rows_input.poisoned, 5, safe=True),
        FaultRow(20, "broken records, one in ten", rows_input.broken_events, 10, safe=True),
        FaultRow(23, "sent twice; same id, other body", rows_input.sent_twice, 10, safe=True),
        FaultRow(
            26, "retention past a position; offsets deleted", rows_state.offsets_lost, 5, safe=True
        ),
        FaultRow(27, "partitions are added, 4 to 6", rows_topics.widened, 3, safe=True),
        FaultRow(31, "deadlines over deaths and moves", rows_state.deadlines, 10, safe=True),
        FaultRow(35, "broken local copies of the ledger", rows_state.broken_copies, 1, safe=True),
        FaultRow(36, "odd ledger partitions", rows_state.odd_ledgers, 5),
        FaultRow(
            38, "no topic for dead letters; put back twice", rows_topics.unburied, 1, safe=True
        ),
        FaultRow(40, "soak with mixed faults", rows_soak.soak, 1, seconds=8 * 3600.0),
    )
}
