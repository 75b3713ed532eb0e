"""One call gives one outcome, whatever user code does."""

import asyncio
import contextvars
import logging
import math
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import pytest
from pydantic import BaseModel, ConfigDict

from streams.blobs import BlobStore
from streams.clock import ManualClock
from streams.engine.payload import INLINE_LIMIT, JobIdentity, Payload, Result, blob_of, reference
from streams.event import Event
from streams.outcome import Cancel, Fail, Ok, Retry, Route, Skip, StageOutput
from streams.policies import SHIPPED_POLICIES, policy_of
from streams.registry import StageRegistry
from streams.runtime.execution import Call, CancelToken, Execution
from streams.secrets import Secrets
from streams.stage import (
    BatchStage,
    Stage,
    StageContext,
    StageMetadata,
    StageRegistration,
    registration_of,
    stage,
    tag,
)
from streams.topology.plan import Batch, Edge, Part, Plan, Policy

SECRET = "correct-horse-battery"


def raw(value):
    return msgspec.Raw(msgspec.json.encode(value))


class Bench:
    """An execution with a plan of one part, and what its calls need."""

    def __init__(self, tmp_path, **options):
        self.registry = StageRegistry()
        self.clock = ManualClock()
        self.blobs = BlobStore(f"{tmp_path.as_uri()}/blobs")
        self.secrets = Secrets({"token": SECRET})
        self.execution = Execution(
            self.registry, self.blobs, self.secrets, self.clock, threads=4, grace=2.0, **options
        )

    def part(self, registration=None, **fields):
        kind = fields.pop("kind", "stage")
        if registration is not None:
            self.registry.register(registration, replace=True)
            fields.setdefault("type", registration.type)
        fields.setdefault("path", "work")
        fields.setdefault("type", "uses")
        return Part(kind=kind, **fields)

    def call(self, part, *, before=(), data=None, outputs=None, payload=None, **fields):
        plan = Plan("pipe", "1", (*before, part), secrets=fields.pop("secrets", ("token",)))
        stages = {path: Result("SUCCESS", raw(out)) for path, out in (outputs or {}).items()}
        job = JobIdentity("job-1", "pipe", "1", "job-1", 1, 1, 2, tenant="acme")
        return Call(
            plan=plan,
            part=part,
            event=Event(id="e1", source="s", type="t", extensions={"correlationid": "c1"}),
            payload=payload or Payload(params={"p": 1}, data=raw(data), stages=stages),
            job=job,
            **fields,
        )

    async def run(self, registration, *, data=None, **fields):
        return await self.execution.run(self.call(self.part(registration, **fields), data=data))


@pytest.fixture
async def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    await made.execution.close()


def value(outcome):
    assert outcome.error is None, outcome.error
    return msgspec.json.decode(outcome.out)


def made(function, **options):
    return stage(type="work", **options)(function)


def both(test):
    """Runs a test with sync and with async user code."""
    return pytest.mark.parametrize("coloured", [sync, as_async], ids=["sync", "async"])(test)


def sync(function):
    return function


def as_async(function):
    async def work(ctx):
        return function(ctx)

    return work


# -- answers


class Model(BaseModel):
    when: datetime


class Struct(msgspec.Struct):
    a: int


@dataclass
class Data:
    b: list[int]


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (None, None),
        ({"a": [1, None]}, {"a": [1, None]}),
        (3, 3),
        ("text", "text"),
        (Struct(1), {"a": 1}),
        (Data([1]), {"b": [1]}),
        (Model(when=datetime(2026, 1, 1, tzinfo=UTC)), {"when": "2026-01-01T00:00:00Z"}),
        ([Model(when=datetime(2026, 1, 1, tzinfo=UTC))], [{"when": "2026-01-01T00:00:00Z"}]),
        (Ok({"x": 1}), {"x": 1}),
        (StageOutput.ok(key="value"), {"key": "value"}),
        (StageOutput.ok(), None),
    ],
)
@both
async def test_a_value_is_success(bench, coloured, answer, wanted):
    outcome = await bench.run(made(coloured(lambda ctx: answer)))
    assert outcome.verdict == Ok()
    assert value(outcome) == wanted


@pytest.mark.parametrize(
    "verdict", [Skip("no need"), Retry(1.5, "later"), Cancel("enough"), Route("left")]
)
@both
async def test_a_verdict_stays_what_it_is(bench, coloured, verdict):
    assert (await bench.run(made(coloured(lambda ctx: verdict)))).verdict == verdict


async def test_a_fail_verdict_brings_its_own_code_and_metadata(bench):
    outcome = await bench.run(
        made(lambda ctx: Fail("no pages", code="P1", retriable=False, metadata={"pages": 0}))
    )
    assert outcome.verdict == Fail("no pages", "P1", False)
    assert (outcome.error.code, outcome.error.message) == ("P1", "no pages")
    assert outcome.meta == {"pages": 0}
    assert bytes(outcome.out) == b"null"


cyclic: list = []
cyclic.append(cyclic)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"items": [1, {"when": object()}]}, r"\$\.items\[1\]\.when is of type object"),
        ({"a": math.nan}, r"\$\.a is nan"),
        ({"a": None, "b": [math.inf]}, r"\$\.b\[0\] is inf"),
        (Data([1, math.nan]), r"\$\.b\[1\] is nan"),
        ((n for n in range(3)), "is a generator; return a list"),
        ({("a", 1): 1}, "has a key of type tuple"),
        (cyclic, "nested too deeply, or contains itself"),
        ("\ud800", "UnicodeEncodeError"),
        ({"f": len}, r"\$\.f is of type builtin_function"),
        (Retry(math.nan), "delay of a retry"),
        (Retry(-1), "delay of a retry"),
        (Retry("soon"), "delay of a retry"),
        (Route(3), "branch of a route"),
        (Ok(1, metadata={"when": object()}), r"metadata: .*\$\.when"),
        (Ok(1, metadata=[1]), "metadata must be a mapping"),
        (Ok(1, metadata={"big": "x" * 40_000}), "over the limit"),
    ],
)
@both
async def test_an_answer_that_json_cannot_hold_names_its_place(bench, coloured, answer, words):
    """E11-like: a wrong return is a coded failure, and never tried again."""
    outcome = await bench.run(made(coloured(lambda ctx: answer)))
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(outcome.error.message)
    assert (outcome.error.code, outcome.verdict.retriable) == ("S011", False)


async def test_an_async_generator_is_refused(bench):
    async def produce(ctx):
        yield 1

    outcome = await bench.run(
        StageRegistration(StageMetadata("work"), lambda d: type("G", (), {"execute": produce})())
    )
    assert outcome.error.code == "S012"


async def test_a_plain_function_may_return_a_coroutine(bench):
    async def inner():
        await asyncio.sleep(0)
        return 5

    assert value(await bench.run(made(lambda ctx: inner()))) == 5


# -- surprises


class Rude(BaseException):
    pass


class Recursive(Exception):
    def __str__(self):
        return f"{self}"

    __repr__ = __str__


class Exiting(Exception):
    def __str__(self):  # noqa: PLE0307 - it never returns at all
        sys.exit(1)


def recurse():
    return recurse()


def raising(error):
    def work(ctx):
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "code", "retriable", "words"),
    [
        (raising(ValueError("bad pdf")), "S001", True, "ValueError: bad pdf"),
        (raising(KeyError("x")), "S001", True, "KeyError"),
        (raising(StopIteration(3)), "S001", True, "StopIteration"),
        (raising(MemoryError()), "S001", True, "MemoryError"),
        (lambda ctx: recurse(), "S001", True, "RecursionError"),
        (raising(TimeoutError("http")), "S020", True, "http"),
        (lambda ctx: sys.exit(3), "S021", True, "SystemExit: 3"),
        (raising(KeyboardInterrupt()), "S021", True, "KeyboardInterrupt"),
        (raising(GeneratorExit()), "S021", True, "GeneratorExit"),
        (raising(Rude("out")), "S021", True, "Rude: out"),
        (raising(asyncio.CancelledError()), "S022", True, "CancelledError"),
        (raising(Recursive()), "S001", True, "Recursive: (its message could not be made)"),
        (raising(Exiting()), "S001", True, "could not be made"),
        (raising(ValueError("x" * 10_000)), "S001", True, "xxx…"),
        (lambda ctx: ctx.inputs.get_output("nope"), "S015", False, "'nope'"),
        (lambda ctx: ctx.ledger, "S015", False, "ledger view"),
    ],
)
@both
async def test_whatever_is_raised_becomes_a_failure(bench, coloured, work, code, retriable, words):
    """One table maps exceptions to verdicts; the worker lives."""
    outcome = await bench.run(made(coloured(work)))
    assert (outcome.error.code, outcome.verdict.retriable) == (code, retriable)
    assert words in outcome.error.message
    assert len(outcome.error.message) <= 2000
    assert value(await bench.run(made(lambda ctx: "lives"), path="other")) == "lives"


async def test_the_traceback_stands_in_the_log(bench):
    outcome = await bench.run(made(raising(ValueError("bad pdf"))))
    assert "raise error" in outcome.log
    assert outcome.log.endswith("ValueError: bad pdf")
    assert outcome.error.log == outcome.log


async def test_a_wrong_input_spends_no_attempt(bench):
    def pages(doc: dict[str, int]):
        return doc

    outcome = await bench.run(made(pages), data={"a": "x"})
    assert (outcome.error.code, outcome.verdict.retriable) == ("S010", False)
    assert "input.a" in outcome.error.message


async def test_a_type_that_only_other_workers_have_is_offered_again_and_spends_no_attempt(bench):
    """Stage agent 2: the newer half of a rolling upgrade has it; never a dead letter."""
    outcome = await bench.execution.run(bench.call(bench.part(type="nowhere")))
    assert outcome.verdict.after == 5.0
    assert outcome.verdict.reason.startswith("no-capable-worker: ")
    assert "'nowhere'" in outcome.verdict.reason
    assert outcome.error is None


@pytest.mark.parametrize("error", [SystemExit(1), RuntimeError("no GPU")])
async def test_a_builder_that_fails_is_a_failure_of_each_call(bench, error):
    def build(definition):
        raise error

    registration = StageRegistration(StageMetadata("work"), build)
    for _ in range(2):
        assert (await bench.run(registration)).error.code in {"S012", "S021"}


# -- time


def timed(bench, registration, seconds=30.0):
    part = bench.part(registration, retry=Policy(timeout_seconds=seconds))
    return bench.execution.run(bench.call(part))


async def test_an_endless_async_stage_is_stopped_at_its_limit(bench):
    cleaned = []

    async def work(ctx):
        try:
            bench.clock.advance(29)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            bench.clock.advance(1)
            while True:
                await asyncio.sleep(0)
        finally:
            cleaned.append(ctx.cancelled)

    outcome = await timed(bench, made(work))
    assert (outcome.error.code, outcome.verdict.retriable) == ("S020", True)
    assert outcome.error.message == "no answer within 30 s"
    assert cleaned == [True]
    assert outcome.ended - outcome.started == 30_000


async def test_an_async_stage_that_ignores_its_cancel_is_given_up(bench):
    async def work(ctx):
        bench.clock.advance(30)
        for _ in range(50):
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                bench.clock.advance(2)

    outcome = await timed(bench, made(work))
    assert "was given up" in outcome.error.message


async def test_a_sync_stage_that_never_returns_is_given_up_and_its_thread_replaced(tmp_path):
    """A hanging stage takes no part of the pool along, nor the worker's shutdown."""
    bench = Bench(tmp_path)
    release = threading.Event()
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang(ctx):
        loop.call_soon_threadsafe(begun.set)
        release.wait()

    runs = []
    for _ in range(6):
        runs.append(asyncio.create_task(timed(bench, made(hang))))
        if len(runs) <= 4:
            await begun.wait()
            begun.clear()
    bench.clock.advance(30)
    await settle()
    bench.clock.advance(2)
    outcomes = await asyncio.gather(*runs[:4])
    assert {outcome.error.code for outcome in outcomes} == {"S020"}
    release.set()
    assert [outcome.verdict for outcome in await asyncio.gather(*runs[4:])] == [Ok(), Ok()]
    assert value(await bench.run(made(lambda ctx: 1), path="other")) == 1
    await bench.execution.close()


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


async def test_debugging_has_no_limit_and_stays_in_this_thread(tmp_path):
    """`streams dev --debug`: a breakpoint() must work and may take its time."""
    bench = Bench(tmp_path, debug=True)

    def work(ctx):
        bench.clock.advance(3600)
        return threading.current_thread() is threading.main_thread()

    assert value(await timed(bench, made(work), 1.0)) is True
    await bench.execution.close()


# -- cancelling


async def test_a_cancelled_async_stage_stops_and_says_so(bench):
    token = CancelToken()
    cleaned = []

    async def work(ctx):
        token.set("user asked")
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(ctx.cancelled)

    outcome = await bench.execution.run(bench.call(bench.part(made(work)), cancel=token))
    assert outcome.cancelled
    assert outcome.error == msgspec.structs.replace(
        outcome.error, code="S030", message="cancelled: user asked"
    )
    assert not outcome.verdict.retriable
    assert cleaned == [True]


async def test_a_sync_stage_sees_the_cancel_and_what_it_returns_is_dropped(bench):
    token = CancelToken()
    loop = asyncio.get_running_loop()

    def work(ctx):
        loop.call_soon_threadsafe(token.set, "stop")
        while not ctx.cancelled:
            pass
        return "late"

    outcome = await bench.execution.run(bench.call(bench.part(made(work)), cancel=token))
    assert outcome.cancelled
    assert bytes(outcome.out) == b"null"


async def test_a_stage_of_a_cancelled_job_does_not_start(bench):
    token = CancelToken()
    token.set("before")
    called = []
    call = bench.call(bench.part(made(lambda ctx: called.append(1))), cancel=token)
    assert (await bench.execution.run(call)).cancelled
    assert called == []


async def test_the_workers_shutdown_passes_through_and_ends_the_stage(bench):
    begun = asyncio.Event()
    ended = []

    async def work(ctx):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(ctx.cancelled)

    task = asyncio.create_task(bench.run(made(work)))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await bench.execution.close()
    assert ended == [True]


# -- inputs, config, ledger fields


def around(bench, part, needs, types=None):
    """Parts that the part depends on."""
    return tuple(
        Part(need, "stage", (types or {}).get(need, "other"), edges=(Edge(part.path),))
        for need in needs
    )


async def upstream_of(bench, registration, outputs, data=None, types=None, **fields):
    part = bench.part(registration, needs=tuple(outputs), **fields)
    call = bench.call(part, before=around(bench, part, outputs, types), outputs=outputs, data=data)
    return value(await bench.execution.run(call))


class Echo:
    def execute(self, ctx: StageContext, upstream):
        return upstream


def echo_registration(**metadata):
    return StageRegistration(StageMetadata("echo-it", **metadata), lambda d: Echo())


async def test_upstream_is_the_one_value_the_mapping_or_the_data(bench):
    """M19."""
    bench.registry.register(
        StageRegistration(StageMetadata("keyed", state_key="document"), lambda d: Echo())
    )
    echo = echo_registration()
    assert await upstream_of(bench, echo, {}, data={"d": 1}) == {"d": 1}
    assert await upstream_of(bench, echo, {"a": [1]}) == [1]
    several = await upstream_of(bench, echo, {"a": 1, "b": 2}, types={"a": "keyed"})
    assert several == {"document": 1, "b": 2}
    clash = await upstream_of(bench, echo, {"a": 1, "b": 2}, types={"a": "keyed", "b": "keyed"})
    assert clash == {"a": 1, "b": 2}


async def test_the_ledger_view_is_in_the_upstream_of_who_declares_it(bench):
    """M18."""
    part = bench.part(echo_registration(dependencies=["@ledger"]), ledger=True)
    payload = Payload(data=raw({"x": 1}), ledger={"pdf_ir_ready": True})
    outcome = await bench.execution.run(bench.call(part, payload=payload))
    assert value(outcome) == {"x": 1, "ledger": {"pdf_ir_ready": True}}


async def test_an_input_is_seen_through_the_gates_before_a_stage(bench):
    """A gate holds a job; what travels is the output before it."""
    part = bench.part(echo_registration(), needs=("wait",))
    before = (
        Part("fetch", "stage", "other", edges=(Edge("wait"),)),
        Part("wait", "gate", "gate", name="Wait", needs=("fetch",), edges=(Edge("work"),)),
    )
    call = bench.call(part, before=before, outputs={"fetch": {"a": 1}})
    assert value(await bench.execution.run(call)) == {"a": 1}

    def look(ctx: StageContext):
        return [ctx.inputs.get("a"), ctx.inputs.has_output("Wait"), list(ctx.inputs.declared)]

    part = bench.part(made(look), needs=("wait",))
    call = bench.call(part, before=before, outputs={"fetch": {"a": 1}})
    assert value(await bench.execution.run(call)) == [1, False, ["fetch", "wait"]]


async def test_a_view_that_only_an_expression_needs_leaves_the_upstream_as_it_is(bench):
    part = bench.part(echo_registration(), ledger=True, condition="facts.a == 1")
    payload = Payload(data=raw([1]), ledger={"facts": {"a": 1}})
    assert value(await bench.execution.run(bench.call(part, payload=payload))) == [1]


async def test_the_context_says_who_and_what(bench):
    def look(ctx: StageContext):
        return {
            "who": [ctx.job_id, ctx.tenant_id, ctx.correlation_id, ctx.attempt, ctx.event_id],
            "what": [ctx.stage_name, ctx.pipeline_name, ctx.pipeline_version],
            "key": ctx.idempotency_key,
            "snapshot": [ctx.params["p"], ctx.snapshot.org_id, ctx.snapshot.user_id],
            "text": ctx.snapshot.input_text,
            "ledger": ctx.ledger["facts"],
        }

    part = bench.part(made(look), name="The Work", ledger=True)
    data = {"user_id": "u1", "input_text": "Hello!"}
    payload = Payload(params={"p": 1}, data=raw(data), ledger={"facts": {"a": 1}})
    assert value(await bench.execution.run(bench.call(part, payload=payload))) == {
        "who": ["job-1", "acme", "c1", 2, "e1"],
        "what": ["The Work", "pipe", "1"],
        "key": "0a9c79aa-f4f8-548b-86a7-839e67a1453d",
        "snapshot": [1, "acme", "u1"],
        "text": "Hello!",
        "ledger": {"a": 1},
    }


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    limit: int = 1
    token: str = ""


async def test_config_is_evaluated_and_put_into_its_model(bench):
    def work(ctx: StageContext):
        return [ctx.config.limit, len(ctx.config.token)]

    config = {"limit": "${{ params.p + data.n }}", "token": "${{ secrets.token }}"}
    outcome = await bench.run(made(work, config=Config), config=config, data={"n": 4})
    assert value(outcome) == [5, len(SECRET)]


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"limit": "${{ params.nope }}"}, "X004"),
        ({"limit": "${{ data }}"}, "S012"),
        ({"limit": "no number"}, "S012"),
        ({"token": "${{ secrets.other }}"}, "C001"),
    ],
)
async def test_a_config_that_cannot_be_made_is_a_failure_with_its_code(bench, config, code):
    part = bench.part(made(lambda ctx: 1, config=Config), config=config)
    call = bench.call(part, data="text", secrets=("token", "other") if code == "C001" else ())
    outcome = await bench.execution.run(call)
    assert (outcome.error.code, outcome.verdict.retriable) == (code, False)


async def test_uses_calls_a_function_with_evaluated_arguments(bench):
    @tag("tasks", alias="process_csv")
    def process(input_path: str, ctx: StageContext, limit: int = 3) -> dict:
        return {"path": input_path, "limit": limit, "job": ctx.job_id}

    bench.registry.add_function(process)
    part = bench.part(
        kind="uses", uses="tasks/process_csv@latest", args={"input_path": "in/${{ params.p }}.csv"}
    )
    assert value(await bench.execution.run(bench.call(part))) == {
        "path": "in/1.csv",
        "limit": 3,
        "job": "job-1",
    }
    wrong = bench.part(kind="uses", uses="tasks/process_csv", args={"input_path": 1, "limti": 2})
    assert "'limti'" in (await bench.execution.run(bench.call(wrong))).error.message


async def test_fields_of_the_output_reach_the_row(bench):
    def work(ctx):
        return Ok({"pages": 3, "quality": {"score": 0.9}, "text": "x"}, metadata={"pdf": "a.pdf"})

    outcome = await bench.run(
        made(work, sets=("pages", "absent")),
        sets={"half": "${{ result.pages / 2 }}", "s": "${{ stages.work.pages }}", "fixed": True},
        keep=("quality.score",),
    )
    assert outcome.meta == {
        "pdf": "a.pdf",
        "pages": 3,
        "quality.score": 0.9,
        "half": 1,
        "s": 3,
        "fixed": True,
    }


async def test_context_variables_reach_the_thread(bench):
    """Tracing and request ids live in them."""
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("set")
    assert value(await bench.run(made(lambda ctx: variable.get()))) == "set"


# -- the documents' own examples, with only their import lines changed


async def test_the_postprocess_example_of_document_000_runs(bench):
    registry = bench.registry

    @dataclass
    class Document:
        text: str

    @dataclass
    class PostProcessStage:
        def execute(self, ctx: StageContext, document: Document) -> Document:
            # mutate metadata, add annotations, etc.
            return document

    metadata = StageMetadata(
        stage_type="postprocess",
        state_key="document",
        output_handler=lambda state, _, doc: state.__setitem__("document", doc),
        output_counter=lambda _: 1,
        description="Applies tenant-specific post-processing to IR documents",
        dependencies=("parse",),
    )

    registry.register_stage(metadata=metadata, builder=lambda _: PostProcessStage())

    part = bench.part(path="postprocess", type="postprocess", needs=("parse",))
    call = bench.call(
        part, before=around(bench, part, ["parse"]), outputs={"parse": {"text": "IR"}}
    )
    outcome = await bench.execution.run(call)
    assert value(outcome) == {"text": "IR"}
    assert outcome.meta == {"stage.postprocess.output_count": 1}


async def test_the_example_stage_of_document_001_runs(bench):
    @dataclass(slots=True)
    class ExampleStage:
        name: str

        def execute(self, ctx: StageContext, upstream: list[dict]) -> list[dict]:
            return [dict(item, stage=self.name) for item in upstream]

    def _handle_output(state: dict[str, object], stage_name: str, output: list[dict]) -> None:
        state["enriched_payloads"] = output

    metadata = StageMetadata(
        stage_type="example-stage",
        state_key="enriched_payloads",
        output_handler=_handle_output,
        output_counter=len,
        description="Annotates payloads with the stage name",
    )

    def register_example_stage() -> StageRegistration:
        def _builder(definition) -> ExampleStage:
            return ExampleStage(name=definition.name)

        return StageRegistration(metadata=metadata, builder=_builder)

    outcome = await bench.run(
        register_example_stage(), name="example", path="example", data=[{"a": 1}, {"a": 2}]
    )
    assert value(outcome) == [{"a": 1, "stage": "example"}, {"a": 2, "stage": "example"}]
    assert outcome.meta == {"stage.example.output_count": 2}


async def test_a_handler_that_forgets_its_state_key_is_told(bench):
    registration = StageRegistration(
        StageMetadata("work", state_key="docs", output_handler=lambda state, name, out: None),
        lambda d: Echo(),
    )
    outcome = await bench.run(registration)
    assert "left no 'docs'" in outcome.error.message


# -- open and close


async def test_a_stage_is_opened_once_and_closed_at_the_end(tmp_path):
    bench = Bench(tmp_path)
    seen = []

    class Connected(Stage):
        Config = Config

        async def open(self):
            await asyncio.sleep(0)
            seen.append(f"open {self.config.limit}")

        def close(self):
            seen.append("close")

        def execute(self, ctx):
            return ctx.config.limit

    part = bench.part(registration_of(Connected), config={"limit": 7})
    calls = [bench.execution.run(bench.call(part)) for _ in range(3)]
    assert [value(outcome) for outcome in await asyncio.gather(*calls)] == [7, 7, 7]
    await bench.execution.close()
    assert seen == ["open 7", "close"]


async def test_a_stage_that_cannot_be_opened_is_tried_again_with_the_next_call(bench):
    class Flaky(Stage):
        tries = 0

        async def open(self):
            self.tries += 1
            if self.tries == 1:
                raise SystemExit("no connection")

        def execute(self, ctx):
            return self.tries

    registration = registration_of(Flaky)
    failed = await bench.run(registration)
    assert (failed.error.code, failed.verdict.retriable) == ("S013", True)
    assert value(await bench.run(registration)) == 2


async def test_a_plan_can_be_prepared_before_its_first_event(bench):
    """001: builders run when a topology is loaded."""
    built = []

    def build(definition):
        built.append(definition.name)
        return Echo()

    bench.registry.register_stage(metadata=StageMetadata("good"), builder=build)
    plan = Plan("pipe", "1", (Part("a", "stage", "good"), Part("b", "stage", "nowhere")))
    failed = await bench.execution.prepare(plan)
    assert built == ["a"]
    assert {path: fail.code for path, fail in failed.items()} == {"b": "S404"}


# -- inline


def inline_call(bench, function, **fields):
    return bench.call(bench.part(made(function, inline=True)), **fields)


async def test_an_inline_stage_runs_here_and_now_once_it_is_ready(bench):
    call = inline_call(bench, lambda ctx: threading.current_thread().name, data=1)
    assert not bench.execution.runs_inline(call.plan, call.part)
    await bench.execution.prepare(call.plan)
    assert bench.execution.runs_inline(call.plan, call.part)
    assert value(bench.execution.run_inline(call)) == threading.current_thread().name


@pytest.mark.parametrize(
    ("work", "code"),
    [
        (raising(ValueError("x")), "S001"),
        (lambda ctx: sys.exit(1), "S021"),
        (raising(Rude()), "S021"),
        (lambda ctx: {"a": math.nan}, "S011"),
        (lambda ctx: asyncio.sleep(0), "S011"),
        (lambda ctx: [SECRET], "S014"),
    ],
)
async def test_the_inline_path_has_the_same_boundary(bench, work, code):
    call = inline_call(bench, work)
    await bench.execution.prepare(call.plan)
    assert bench.execution.run_inline(call).error.code == code


async def test_async_and_batch_stages_are_never_inline(bench):
    async def work(ctx):
        return 1

    call = inline_call(bench, work)
    await bench.execution.prepare(call.plan)
    assert not bench.execution.runs_inline(call.plan, call.part)


async def test_a_slow_inline_stage_is_told_once(bench, caplog):
    call = inline_call(bench, lambda ctx: bench.clock.advance(0.011))
    await bench.execution.prepare(call.plan)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            bench.execution.run_inline(call)
    assert [r.message for r in caplog.records if "declared inline" in r.message] == [
        (
            "stage work is declared inline but took 11 ms, the third call over 10 ms; "
            "everything else waits meanwhile: remove inline=True"
        )
    ]


# -- batches


class Doubler(BatchStage):
    max_items = 3

    def execute_batch(self, ctxs):
        return [2 * ctx.inputs.value for ctx in ctxs]


def batch_calls(bench, registration, values, **fields):
    part = bench.part(registration, **fields)
    return [bench.call(part, data=data) for data in values]


async def test_a_batch_gives_one_outcome_per_call(bench):
    calls = batch_calls(bench, registration_of(Doubler), [1, 2, 3])
    assert bench.execution.batch_of(calls[0].plan, calls[0].part) is None
    await bench.execution.prepare(calls[0].plan)
    assert bench.execution.batch_of(calls[0].plan, calls[0].part) == Batch(3, 0.05)
    assert [value(o) for o in await bench.execution.run_batch(calls)] == [2, 4, 6]
    assert value(await bench.execution.run(calls[2])) == 6


async def test_the_topologys_batch_wins_and_other_stages_have_none(bench):
    part = bench.part(registration_of(Doubler), batch=Batch(64, 1.0))
    await bench.execution.prepare(bench.call(part).plan)
    assert bench.execution.batch_of(bench.call(part).plan, part) == Batch(64, 1.0)
    plain = bench.part(made(lambda ctx: 1), batch=Batch())
    await bench.execution.prepare(bench.call(plain).plan)
    assert bench.execution.batch_of(bench.call(plain).plan, plain) is None


def batch_stage(function):
    return registration_of(type("Several", (BatchStage,), {"execute_batch": function}))


async def test_one_bad_answer_of_a_batch_fails_its_job_alone(bench):
    registration = batch_stage(
        lambda self, ctxs: [1, ValueError("bad"), {"x": object()}, Skip("no"), None]
    )
    outcomes = await bench.execution.run_batch(batch_calls(bench, registration, range(5)))
    assert [o.error.code if o.error else None for o in outcomes] == [
        None,
        "S001",
        "S011",
        None,
        None,
    ]
    assert outcomes[3].verdict == Skip("no")


@pytest.mark.parametrize(
    ("answer", "code"), [([1], "S011"), (None, "S011"), ({"a": 1}, "S011"), ("ab", "S011")]
)
async def test_a_batch_of_the_wrong_size_fails_all(bench, answer, code):
    registration = batch_stage(lambda self, ctxs: answer)
    outcomes = await bench.execution.run_batch(batch_calls(bench, registration, [1, 2]))
    assert [o.error.code for o in outcomes] == [code, code]


async def test_a_batch_that_raises_fails_all_and_one_bad_config_only_its_own(bench):
    async def work(self, ctxs):
        if len(ctxs) > 2:
            raise SystemExit(1)
        return [ctx.config["n"] for ctx in ctxs]

    registration = batch_stage(work)
    config = {"n": "${{ data.n }}"}
    good, bad = {"n": 1}, {}
    calls = batch_calls(bench, registration, [good, bad, good], config=config)
    outcomes = await bench.execution.run_batch(calls)
    assert [o.error.code if o.error else value(o) for o in outcomes] == [1, "X004", 1]
    calls = batch_calls(bench, registration, [good, good, good], config=config)
    assert {o.error.code for o in await bench.execution.run_batch(calls)} == {"S021"}


async def test_a_batch_goes_on_without_a_cancelled_job_and_stops_with_its_last(bench):
    tokens = [CancelToken(), CancelToken()]
    seen = []

    async def work(self, ctxs):
        seen.append(len(ctxs))
        for token in tokens:
            token.set("stop")
        await asyncio.Event().wait()

    part = bench.part(batch_stage(work))
    calls = [bench.call(part, cancel=token) for token in tokens]
    outcomes = await bench.execution.run_batch(calls)
    assert [o.cancelled for o in outcomes] == [True, True]
    assert seen == [2]


# -- secrets


LEAKS = [
    raising(ValueError(f"401 for {SECRET}")),
    lambda ctx: ctx.log.info("calling", token=SECRET) or 1,
    lambda ctx: Fail(f"bad {SECRET}", code=SECRET),
    lambda ctx: Skip(SECRET),
    lambda ctx: Cancel(SECRET),
    lambda ctx: Retry(1, SECRET),
    lambda ctx: {"token": SECRET},
    lambda ctx: Ok(1, metadata={"token": SECRET}),
    lambda ctx: {"x": [object(), SECRET]},
    lambda ctx: {SECRET: object()},
    lambda ctx: Fail("x", metadata={"token": SECRET}),
]


@pytest.mark.parametrize("leak", LEAKS)
async def test_no_outcome_and_no_log_holds_a_secret(bench, leak, caplog):
    """K1: force each failure kind, then look everywhere."""
    with caplog.at_level(logging.DEBUG):
        outcome = await bench.run(made(leak))
    assert SECRET not in repr(outcome)
    assert SECRET.encode() not in bytes(outcome.out)
    assert SECRET not in caplog.text


# -- large values


async def test_a_large_answer_goes_to_the_blob_store_under_its_job(bench):
    big = "x" * 5_000_000
    outcome = await bench.run(made(lambda ctx: big))
    ref = blob_of(outcome.out)
    assert len(bytes(outcome.out)) < 1024
    assert ref.url.startswith(f"{bench.blobs.url}/streams/pipe/job-1/")
    assert await bench.blobs.value(ref) == big


@pytest.mark.parametrize(("size", "is_blob"), [(INLINE_LIMIT - 2, False), (INLINE_LIMIT - 1, True)])
async def test_the_border_is_48_kib(bench, size, is_blob):
    outcome = await bench.run(made(lambda ctx: "x" * size))
    assert (blob_of(outcome.out) is not None) is is_blob


async def test_an_inline_stages_large_answer_goes_there_too(bench):
    call = inline_call(bench, lambda ctx: "x" * INLINE_LIMIT)
    await bench.execution.prepare(call.plan)
    assert blob_of(bench.execution.run_inline(call).out) is not None


async def test_values_in_the_store_are_there_when_the_stage_runs(bench):
    kept = await bench.blobs.put("ns/pipe/job-1", b'{"text":"long"}')

    def work(ctx):
        return [ctx.inputs.get_from("parse", "text"), ctx.snapshot.data["text"]]

    part = bench.part(made(work), needs=("parse",))
    payload = Payload(data=reference(kept), stages={"parse": Result("SUCCESS", reference(kept))})
    call = bench.call(part, before=around(bench, part, ["parse"]), payload=payload)
    assert value(await bench.execution.run(call)) == ["long", "long"]


@pytest.mark.parametrize("inline", [False, True])
async def test_a_missing_blob_is_a_failure_with_its_code(bench, inline):
    kept = await bench.blobs.put("ns/pipe/job-1", b"1")
    await bench.blobs.delete_prefix("ns/pipe/job-1")
    call = inline_call(bench, lambda upstream: upstream, payload=Payload(data=reference(kept)))
    if inline:
        await bench.execution.prepare(call.plan)
        outcome = bench.execution.run_inline(call)
    else:
        outcome = await bench.execution.run(call)
    assert (outcome.error.code, outcome.verdict.retriable) == ("B001", False)


async def test_a_store_that_fails_is_a_failure_worth_another_try(tmp_path):
    bench = Bench(tmp_path)
    (tmp_path / "blobs").write_text("a file where the folder has to be")
    outcome = await bench.run(made(lambda ctx: "x" * INLINE_LIMIT))
    assert (outcome.error.code, outcome.verdict.retriable) == ("B004", True)
    await bench.execution.close()


# -- the log


async def test_the_log_of_an_attempt_is_bounded(bench):
    def work(ctx):
        for n in range(5000):
            ctx.log.info("line", n=n)

    outcome = await bench.run(made(work))
    assert len(outcome.log.encode()) <= 8 * 1024
    assert outcome.log.endswith("n=4999")


# -- policies


def test_a_stages_own_policy_wins_then_the_topologys_then_the_shipped():
    mine, named = Policy(max_attempts=7), Policy(max_attempts=8)

    def of(**fields):
        part = Part("a", "stage", "x", **fields)
        return policy_of(Plan("p", "1", (part,), policies={"default": named}), part)

    assert of(retry=mine, policy="default") == mine
    assert of(policy="default") == named
    assert of(policy="polite-api") == SHIPPED_POLICIES["polite-io"]
    assert of() == Policy()
    assert (
        SHIPPED_POLICIES["default"].max_attempts,
        SHIPPED_POLICIES["default"].timeout_seconds,
    ) == (3, 30.0)
    with pytest.raises(Exception, match="unknown policy 'nope'"):
        of(policy="nope")
