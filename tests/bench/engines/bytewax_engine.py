"""Bytewax: four flows in one dataflow. It has neither consumer groups nor transactions."""

import sys

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main
from common import BOOTSTRAP, HEADERS, LEDGER, MODE, STAGES, ledger_next, topic, work

flow = Dataflow("bench")
ledger = {}


def hop_of(stage):
    def hop(message):
        doc, out = work(message.value, stage)
        row = ledger[doc] = ledger_next(ledger.get(doc), doc, stage)
        return [
            KafkaSinkMessage(message.key, out, headers=HEADERS, topic=topic(stage + 1)),
            KafkaSinkMessage(message.key, orjson.dumps(row), topic=LEDGER),
        ]

    return hop


def add(stage):
    source = KafkaSource(
        [BOOTSTRAP],
        [topic(stage)],
        tail=True,
        batch_size=1000,
        add_config={"fetch.wait.max.ms": "50"},
    )
    sink = KafkaSink(
        [BOOTSTRAP],
        topic(stage + 1),
        add_config={"linger.ms": "5", "partitioner": "murmur2_random"},
    )
    events = op.input(f"in{stage}", flow, source)
    op.output(f"out{stage}", op.flat_map(f"work{stage}", events, hop_of(stage)), sink)


if __name__ == "__main__":
    if MODE == "eos":
        sys.exit("bytewax has no transactions")
    for each in range(STAGES):
        add(each)
    cli_main(flow)
