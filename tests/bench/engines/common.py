"""What every engine of the comparison shares: the run it belongs to, and the work of one hop.

Runs in each peer's own interpreter: the standard library and orjson only.
"""

import os
import uuid

import orjson

BOOTSTRAP = os.environ.get("BENCH_BOOTSTRAP", "127.0.0.1:9092")
RUN = os.environ.get("BENCH_RUN", "bench")
"""Group, and first part of every topic's name."""
MODE = os.environ.get("BENCH_MODE", "alo")
"""`alo` at least once, `eos` exactly once."""
OPTIONS = dict(
    pair.split("=", 1) for pair in os.environ.get("BENCH_OPTIONS", "").split(",") if pair
)
WORKER = os.environ.get("BENCH_WORKER", "0")
"""This worker's number: the same after a restart."""
FOLDER = os.environ.get("BENCH_FOLDER", "")
"""Where it may keep files: the same after a restart."""

STAGES = 4
PARTITIONS = 4
HEADERS = [("content-type", b"application/cloudevents+json; charset=UTF-8")]


def topic(stage: int) -> str:
    """Where events for a stage stand; the sink is that of the stage after the last."""
    return f"{RUN}-s{stage}"


LEDGER = f"{RUN}-ledger"
INPUTS = [topic(stage) for stage in range(STAGES)]
STAGE_OF = {topic(stage): stage for stage in range(STAGES + 1)}


def work(raw: bytes, stage: int) -> tuple[str, bytes]:
    """One hop: the event is parsed, a field changed, the next event made. Document, its bytes."""
    event = orjson.loads(raw)
    event["id"] = uuid.uuid4().hex
    event["source"] = f"/bench/stage/{stage}"
    event["type"] = "org.bench.doc.stage.done"
    event["data"]["stage"] = stage + 1
    return event["subject"], orjson.dumps(event)


def ledger_next(before: dict | None, doc: str, stage: int) -> dict:
    """The document's ledger row after this hop; `attempts` counts how often the stage ran."""
    again = before is not None and before["stage"] == stage + 1
    return {
        "doc": doc,
        "stage": stage + 1,
        "attempts": before["attempts"] + 1 if again else 1,
        "status": "done" if stage + 1 == STAGES else "running",
        "hops": before["hops"] + 1 if before else 1,
    }
