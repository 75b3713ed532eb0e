"""aiokafka in one loop: getmany, work, send, commit. Options: batch=, linger=, session=, static=1,
loop=uvloop."""

import asyncio
import signal

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError
from common import (
    BOOTSTRAP,
    HEADERS,
    INPUTS,
    LEDGER,
    MODE,
    OPTIONS,
    RUN,
    STAGE_OF,
    WORKER,
    ledger_next,
    topic,
    work,
)

BATCH = int(OPTIONS.get("batch", "1000"))
SESSION = int(OPTIONS.get("session", "10000"))
EXACTLY_ONCE = MODE == "eos"


class Loop(ConsumerRebalanceListener):
    def __init__(self):
        self.ledger = {}
        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=BOOTSTRAP,
            group_id=RUN,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed" if EXACTLY_ONCE else "read_uncommitted",
            fetch_max_wait_ms=50,
            session_timeout_ms=SESSION,
            heartbeat_interval_ms=min(3000, SESSION // 3),
            max_partition_fetch_bytes=1048576,
            group_instance_id=f"w{WORKER}" if OPTIONS.get("static") else None,
            partition_assignment_strategy=(RangePartitionAssignor,),
        )
        self.producer = AIOKafkaProducer(
            bootstrap_servers=BOOTSTRAP,
            linger_ms=int(OPTIONS.get("linger", "5")),
            acks="all",
            enable_idempotence=True,
            max_batch_size=262144,
            transactional_id=f"{RUN}-{WORKER}" if EXACTLY_ONCE else None,
            transaction_timeout_ms=30000,
        )

    async def on_partitions_revoked(self, revoked):
        self.ledger.clear()

    async def on_partitions_assigned(self, assigned):
        pass

    async def hops(self, found):
        """Sends under way, and the positions behind these messages."""
        sends, positions = [], {}
        for place, messages in found.items():
            stage = STAGE_OF[place.topic]
            following = topic(stage + 1)
            for message in messages:
                doc, out = work(message.value, stage)
                row = self.ledger[doc] = ledger_next(self.ledger.get(doc), doc, stage)
                send = self.producer.send
                sends.append(await send(following, out, message.key, headers=HEADERS))
                sends.append(await send(LEDGER, orjson.dumps(row), message.key))
            positions[place] = messages[-1].offset + 1
        return sends, positions

    async def transaction(self, found):
        try:
            async with self.producer.transaction():
                _, positions = await self.hops(found)
                await self.producer.send_offsets_to_transaction(positions, RUN)
        except KafkaError as error:
            print("transaction", repr(error), flush=True)
            self.ledger.clear()
            if not error.retriable and "Fenced" in repr(error):
                raise
            for place in self.consumer.assignment():
                self.consumer.seek(place, await self.consumer.committed(place) or 0)

    async def at_least_once(self, found):
        sends, positions = await self.hops(found)
        await asyncio.gather(*sends)
        try:
            await self.consumer.commit(positions)
        except KafkaError as error:
            print("commit", repr(error), flush=True)

    async def run(self):
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await self.producer.start()
        self.consumer.subscribe(INPUTS, listener=self)
        await self.consumer.start()
        while not stop.is_set():
            found = await self.consumer.getmany(timeout_ms=50, max_records=BATCH)
            if found:
                await (self.transaction(found) if EXACTLY_ONCE else self.at_least_once(found))
        await self.consumer.stop()
        await self.producer.stop()


async def main():
    await Loop().run()


if __name__ == "__main__":
    if OPTIONS.get("loop") == "uvloop":
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
