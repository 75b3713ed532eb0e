"""The bare loop on librdkafka: consume a batch, work, produce, commit. The bound to measure against.

Options: batch=, linger=, session=, static=1, protocol=consumer.
"""

import signal

import orjson
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
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition

BATCH = int(OPTIONS.get("batch", "1000"))
SECONDS = 20
EXACTLY_ONCE = MODE == "eos"


def consumer_settings():
    settings = {
        "bootstrap.servers": BOOTSTRAP,
        "group.id": RUN,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed" if EXACTLY_ONCE else "read_uncommitted",
        "fetch.wait.max.ms": 50,
        "fetch.queue.backoff.ms": 5,
        "queued.min.messages": 10000,
        "topic.metadata.refresh.interval.ms": 30000,
    }
    if OPTIONS.get("protocol") == "consumer":
        settings["group.protocol"] = "consumer"
    else:
        session = int(OPTIONS.get("session", "45000"))
        settings["session.timeout.ms"] = session
        settings["heartbeat.interval.ms"] = min(3000, session // 3)
        settings["partition.assignment.strategy"] = "range"
    if OPTIONS.get("static"):
        settings["group.instance.id"] = f"w{WORKER}"
    return settings


def producer_settings():
    settings = {
        "bootstrap.servers": BOOTSTRAP,
        "linger.ms": int(OPTIONS.get("linger", "5")),
        "partitioner": "murmur2_random",
        "acks": "all",
        "enable.idempotence": True,
        "queue.buffering.max.messages": 1000000,
        "batch.size": 1000000,
    }
    if EXACTLY_ONCE:
        settings["transactional.id"] = f"{RUN}-{WORKER}"
        settings["transaction.timeout.ms"] = 30000
    return settings


class Loop:
    def __init__(self):
        self.stopped = False
        self.ledger = {}
        self.producer = Producer(producer_settings())
        if EXACTLY_ONCE:
            self.producer.init_transactions(30)
        self.consumer = Consumer(consumer_settings())
        self.consumer.subscribe(INPUTS, on_revoke=lambda *_: self.ledger.clear())

    def stop(self, *_):
        self.stopped = True

    def hop(self, message):
        stage, key = STAGE_OF[message.topic()], message.key()
        doc, out = work(message.value(), stage)
        row = self.ledger[doc] = ledger_next(self.ledger.get(doc), doc, stage)
        self.producer.produce(topic(stage + 1), out, key, headers=HEADERS)
        self.producer.produce(LEDGER, orjson.dumps(row), key)

    def hops(self, messages):
        """The positions behind these messages, all worked."""
        done = {}
        for message in messages:
            self.hop(message)
            done[message.topic(), message.partition()] = message.offset() + 1
        return [TopicPartition(name, number, offset) for (name, number), offset in done.items()]

    def transaction(self, messages):
        producer, consumer = self.producer, self.consumer
        producer.begin_transaction()
        try:
            positions = self.hops(messages)
            member = consumer.consumer_group_metadata()
            producer.send_offsets_to_transaction(positions, member, SECONDS)
            producer.commit_transaction(SECONDS)
        except KafkaException as error:
            print("transaction", error, flush=True)
            if error.args[0].fatal():
                raise
            producer.abort_transaction(SECONDS)
            self.rewind()

    def rewind(self):
        self.ledger.clear()
        assigned = self.consumer.assignment()
        for place in self.consumer.committed(assigned, 10):
            offset = place.offset if place.offset >= 0 else OFFSET_BEGINNING
            self.consumer.seek(TopicPartition(place.topic, place.partition, offset))

    def run(self):
        signal.signal(signal.SIGTERM, self.stop)
        while not self.stopped:
            messages = [m for m in self.consumer.consume(BATCH, 0.02) if not m.error()]
            if not messages:
                self.producer.poll(0)
            elif EXACTLY_ONCE:
                self.transaction(messages)
            else:
                positions = self.hops(messages)
                self.producer.flush(SECONDS)
                self.consumer.commit(offsets=positions, asynchronous=True)
        self.producer.flush(10)
        self.consumer.close()


if __name__ == "__main__":
    Loop().run()
