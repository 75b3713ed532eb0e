"""The simulated log comes to the same as a real Kafka: what the proof by simulation rests on."""

from __future__ import annotations

import asyncio

import pytest

from streams.broker.kafka import KafkaLog
from streams.clock import SystemClock
from streams.testing.virtual_time import virtual_loop
from tests.integration.fidelity.grounds import KafkaGround, SimulatedGround
from tests.integration.fidelity.play import Play
from tests.integration.fidelity.scenarios import SCENARIOS

AT_ONCE = 6
"""Scenarios that run beside each other: most of their time is waiting for groups."""
# A commit that is not fenced any sooner than the members that went silent is waited for.
OPTIONS = {"max.poll.interval.ms": 8_000}


def simulated(script: str) -> list[str]:
    with virtual_loop() as loop:

        async def play() -> list[str]:
            ground = SimulatedGround()
            told = await Play(ground).run(script)
            await ground.log.close()
            return told

        return loop.run(play())


async def on_kafka(bootstrap: str) -> dict[str, list[str] | BaseException]:
    log = KafkaLog.open(bootstrap, clock=SystemClock(), options=OPTIONS)
    places = asyncio.Semaphore(AT_ONCE)

    async def play(script: str) -> list[str]:
        async with places:
            return await Play(KafkaGround(log, bootstrap)).run(script)

    try:
        told = await asyncio.gather(*map(play, SCENARIOS.values()), return_exceptions=True)
        return dict(zip(SCENARIOS, told, strict=True))
    finally:
        await log.delete_topics([n for n in await log.topics() if n.startswith("fidelity-")])
        await log.close()


@pytest.fixture(scope="module")
def played(kafka: str) -> dict[str, list[str] | BaseException]:
    """What every scenario came to on the real one; they are played side by side."""
    return asyncio.run(on_kafka(kafka))


@pytest.mark.parametrize("name", SCENARIOS)
def test_both_come_to_the_same(name: str, played: dict[str, list[str] | BaseException]) -> None:
    """reliability.md 3b: scripted scenarios give the same committed view."""
    real = played[name]
    if isinstance(real, BaseException):
        raise real
    assert simulated(SCENARIOS[name]) == real
