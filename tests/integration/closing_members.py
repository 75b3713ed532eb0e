"""Closes members of groups, each of whom is just being given its partitions."""

import asyncio
import sys
import uuid

from streams.broker.kafka import KafkaLog
from streams.broker.port import TopicSpec
from streams.clock import SystemClock

MEMBERS = 40
NOT_POLLED = 4.0
"""Seconds in which the library joins the group and has news that nobody asks for."""


async def main(bootstrap: str) -> None:
    log = KafkaLog.open(bootstrap, clock=SystemClock())
    topic = f"closing-{uuid.uuid4().hex[:8]}"
    await log.create_topics([TopicSpec(topic, 4)])
    members = [log.consumer(f"{topic}.{number}", "member") for number in range(MEMBERS)]
    for member in members:
        await member.subscribe([topic])
        await member.poll(1, 0.0)
    await asyncio.sleep(NOT_POLLED)
    for member in members:
        await member.close()
    await log.delete_topics([topic])
    await log.close()
    print("all closed")


asyncio.run(main(sys.argv[1]))
