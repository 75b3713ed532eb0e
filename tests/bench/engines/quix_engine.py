"""Quix Streams: four dataframes chained by topics.

Options: commit= (seconds), session=, static=1, state=1 (its own state and changelog as the ledger,
in place of a dict and a topic).
"""

import orjson
from common import (
    BOOTSTRAP,
    FOLDER,
    LEDGER,
    MODE,
    OPTIONS,
    RUN,
    STAGES,
    WORKER,
    ledger_next,
    topic,
    work,
)
from quixstreams import Application

OWN_STATE = OPTIONS.get("state") == "1"


def application():
    member = {"group.instance.id": f"w{WORKER}"} if OPTIONS.get("static") else {}
    return Application(
        broker_address=BOOTSTRAP,
        consumer_group=RUN,
        auto_offset_reset="earliest",
        loglevel="WARNING",
        processing_guarantee="exactly-once" if MODE == "eos" else "at-least-once",
        commit_interval=float(OPTIONS.get("commit", "5.0")),
        state_dir=FOLDER,
        use_changelog_topics=OWN_STATE,
        consumer_extra_config={
            "fetch.wait.max.ms": 50,
            "queued.min.messages": 10000,
            "session.timeout.ms": int(OPTIONS.get("session", "45000")),
            **member,
        },
        producer_extra_config={"linger.ms": 5, "partitioner": "murmur2"},
    )


def topic_of_bytes(app, name):
    return app.topic(
        name,
        value_deserializer="bytes",
        value_serializer="bytes",
        key_serializer="bytes",
        key_deserializer="bytes",
    )


def main():
    app, ledger = application(), {}
    topics = [topic_of_bytes(app, topic(stage)) for stage in range(STAGES + 1)]
    rows = topic_of_bytes(app, LEDGER)

    def with_own_state(stage):
        def hop(value, state):
            doc, out = work(value, stage)
            state.set(doc, ledger_next(state.get(doc), doc, stage))
            return out

        app.dataframe(topics[stage]).apply(hop, stateful=True).to_topic(topics[stage + 1])

    def with_topic(stage):
        def hop(value):
            doc, out = work(value, stage)
            row = ledger[doc] = ledger_next(ledger.get(doc), doc, stage)
            return out, orjson.dumps(row)

        both = app.dataframe(topics[stage]).apply(hop)
        both.apply(lambda pair: pair[0]).to_topic(topics[stage + 1])
        both.apply(lambda pair: pair[1]).to_topic(rows)

    for stage in range(STAGES):
        (with_own_state if OWN_STATE else with_topic)(stage)
    app.run()


if __name__ == "__main__":
    main()
