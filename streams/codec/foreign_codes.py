"""Codes of records that are read from topics of others, with what `streams explain` says."""

from __future__ import annotations

from typing import Final

NOT_AVRO: Final = "V061"
NO_SCHEMA: Final = "V062"
NOT_A_CHANGE: Final = "V063"
NO_ID: Final = "V064"
NOT_HERE: Final = "V065"
REGISTRY_AWAY: Final = "K094"

_POLICY: Final = (
    "What becomes of the record says `on_error` of the source: a dead letter with its original "
    "bytes (the default), nothing, or a halt of its partition."
)

EXPLANATIONS: Final[dict[str, str]] = {
    NOT_AVRO: f"""\
**A value does not fit its Avro schema,** or the schema itself is none.

It must fit to the last byte. With `registry:` a value begins with Confluent's frame (a zero byte and
the schema's number); with `schema:` it may stand bare or behind such a frame. {_POLICY}

Next: see that `schema` or `registry` is the sender's, then `streams dlq redrive`.
""",
    NO_SCHEMA: f"""\
**The schema registry does not know the schema of a record,** or it is no Avro schema.

{_POLICY}

Next: see that the source names the registry that the record's sender uses.
""",
    NOT_A_CHANGE: f"""\
**A record is no change as Debezium tells it.**

An envelope has `op` (`c`, `r`, `u` or `d`) and the row before or after. {_POLICY}

Next: if a transform takes the envelope off, say `format: json` or `format: avro`.
""",
    NO_ID: f"""\
**The `id` of a source gives no id for a job.**

The expression reads something that this record does not have, or gives something else than a text
or a whole number. No id is ever invented: it would make a new job of each repeat. {_POLICY}

Next: read what every record has, or leave `id` out: then the record's place in its topic is the id.
""",
    NOT_HERE: f"""\
**A signal stands in a topic that is read as a source.**

Whoever may write to that topic would act on jobs of this pipeline. {_POLICY}

Next: send signals to the pipeline's own intake, with `streams signal` or as events.
""",
    REGISTRY_AWAY: """\
**The schema registry cannot be asked now.**

The partition waits and asks again; nothing is lost and nothing becomes a dead letter. Others go on.

Next: see whether the registry of the message runs and can be reached from the worker.
""",
}
