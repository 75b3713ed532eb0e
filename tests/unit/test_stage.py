"""What an author writes and sees: decorators, inputs, context."""

import asyncio
import inspect
import threading
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from streams.authoring.context import LOG_LIMIT, AttemptLog
from streams.authoring.function_stage import FunctionName, tags_of
from streams.authoring.signature import signature_of
from streams.clock import ManualClock
from streams.errors import UserError
from streams.stage import (
    BatchStage,
    CancelToken,
    ContextSnapshot,
    RunIdentity,
    Stage,
    StageContext,
    StageDefinition,
    StageInputError,
    StageInputs,
    StageKind,
    StageMetadata,
    StageRegistryError,
    StageSetupError,
    UndeclaredDependencyError,
    registration_of,
    stage,
    tag,
)


class Doc(BaseModel):
    url: str
    pages: int = 0


class Options(BaseModel):
    loud: bool = False


@dataclass
class Point:
    x: int


class Chunk(msgspec.Struct):
    text: str


def built(registration, **config):
    return registration.builder(StageDefinition(name="s", type=registration.type, config=config))


def given(value, **kw):
    return StageContext(inputs=StageInputs({"a": value}), **kw)


# -- decorated functions


def test_a_decorated_function_is_a_registration_and_still_a_function():
    @stage
    def shout(text: str) -> str:
        """Makes it loud."""
        return text.upper()

    assert shout.type == "shout"
    assert shout.metadata.description == "Makes it loud."
    assert shout("a") == "A"


def test_the_decorator_takes_what_metadata_has():
    @stage(type="parse", kind=StageKind.ENRICH, inline=True, config=Options, sets=("pages",))
    def anything(doc: dict) -> dict:
        return doc

    assert (anything.type, anything.kind, anything.inline) == ("parse", StageKind.ENRICH, True)
    assert (anything.config, anything.sets) == (Options, ("pages",))


def test_the_upstream_value_becomes_what_the_parameter_says():
    @stage
    def pages(doc: Doc) -> int:
        return doc.pages

    assert built(pages).execute(given({"url": "u", "pages": "7"})) == 7


@pytest.mark.parametrize(
    ("hint", "value", "wanted"),
    [
        (Point, {"x": 1}, Point(1)),
        (Chunk, {"text": "t"}, Chunk("t")),
        (list[Point], [{"x": 2}], [Point(2)]),
        (int | None, None, None),
        (Any, {"x": 1}, {"x": 1}),
        (dict, {"x": 1}, {"x": 1}),
    ],
)
def test_models_of_every_kind_are_filled(hint, value, wanted):
    def work(item):
        return item

    work.__annotations__["item"] = hint
    assert built(stage(work)).execute(given(value)) == wanted


@pytest.mark.parametrize(
    ("hint", "value", "field"),
    [
        (Doc, {"pages": 1}, "input.url"),
        (list[Doc], [{"url": "u"}, {"url": 3}], r"input\[1\]\.url"),
        (Chunk, {"text": 1}, r"\$\.text"),
        (Point, None, "input"),
    ],
)
def test_a_wrong_input_names_the_field(hint, value, field):
    def work(item):
        return item

    work.__annotations__["item"] = hint
    with pytest.raises(StageInputError, match=field) as caught:
        built(stage(work)).execute(given(value))
    assert caught.value.code == "S010"
    assert not caught.value.retriable


def test_a_wrong_input_is_told_without_its_values():
    """An input may hold what no log should."""

    @stage
    def pages(doc: Doc) -> int:
        return doc.pages

    with pytest.raises(StageInputError) as caught:
        built(pages).execute(given({"url": "u", "pages": "private"}))
    assert "private" not in str(caught.value)


def test_context_and_config_are_found_by_their_annotations():
    @stage(config=Options)
    def work(settings: Options, doc: Doc, c: StageContext):
        return settings.loud, doc.url, c.job_id

    ctx = given({"url": "u"}, config=Options(loud=True), job_id="j1")
    assert built(work).execute(ctx) == (True, "u", "j1")


def test_the_context_is_also_found_by_its_name():
    @stage
    def work(ctx, upstream):
        return ctx.job_id, upstream

    assert built(work).execute(given(1, job_id="j")) == ("j", 1)


def test_several_parameters_take_the_dependencies_they_are_named_after():
    @stage
    def join(parse_it, *, embed: list, missing: int = 3):
        return parse_it, embed, missing

    inputs = StageInputs({"parse-it": {"a": 1}, "embed": [0.5]})
    assert built(join).execute(StageContext(inputs=inputs)) == ({"a": 1}, [0.5], 3)


def test_a_parameter_that_nothing_fills_is_named():
    @stage
    def join(a, b):
        return a, b

    with pytest.raises(StageInputError, match="'b'"):
        built(join).execute(given(1))


async def test_async_functions_give_coroutines():
    @stage
    async def work(doc: Doc) -> str:
        return doc.url

    assert await built(work).execute(given({"url": "u"})) == "u"


def test_a_generator_function_is_refused_when_built():
    @stage
    def work(doc):
        yield doc

    with pytest.raises(StageSetupError, match="generator"):
        built(work)


def test_an_annotation_that_nothing_can_become_is_refused_when_built():
    class Foreign:
        pass

    def work(item):
        return item

    work.__annotations__["item"] = Foreign
    with pytest.raises(StageSetupError, match="Foreign"):
        built(stage(work))


def test_an_unknown_annotation_is_refused_when_built():
    def work(item: "Nowhere"):  # noqa: F821 - the point
        return item

    with pytest.raises(StageSetupError, match="Nowhere"):
        built(stage(work))
    assert signature_of(work, lenient=True).values[0].convert is None


def test_decorating_registers_nothing():
    """Rule 11: the decorator only marks."""

    @tag("tasks", alias="process_csv")
    def process(path: str) -> dict:
        return {"path": path}

    assert [str(mark.name) for mark in tags_of(process)] == ["tasks/process_csv@latest"]
    assert process("x") == {"path": "x"}


def test_a_tag_may_hold_a_version_or_stand_whole():
    @tag("tasks", version="v1")
    @tag("other/name@v2")
    def process():
        return None

    names = {str(mark.name) for mark in tags_of(process)}
    assert names == {"tasks/process@v1", "other/name@v2"}


@pytest.mark.parametrize("text", ["", "process", "../x/y@v1", "a/b@", "a/@v1", "a b/c"])
def test_a_function_name_has_one_form(text):
    with pytest.raises(StageRegistryError) as caught:
        FunctionName.parse(text)
    assert "module/function@version" in caught.value.help


# -- classes


def test_a_class_is_named_in_snake_case_or_by_itself():
    class SplitPagesStage(Stage):
        """Splits."""

    class Other(Stage):
        stage_type = "other-one"

    assert registration_of(SplitPagesStage).type == "split_pages"
    assert registration_of(SplitPagesStage).metadata.description == "Splits."
    assert registration_of(Other).type == "other-one"


async def test_a_stage_class_needs_only_execute():
    stage = Stage()
    await stage.open()
    await stage.close()
    with pytest.raises(NotImplementedError):
        stage.execute(StageContext())
    with pytest.raises(NotImplementedError):
        BatchStage().execute_batch([])


# -- metadata


@pytest.mark.parametrize(
    "wrong",
    [
        {"stage_type": ""},
        {"stage_type": "a b"},
        {"stage_type": "x", "state_key": "not-one"},
        {"stage_type": "x", "state_key": ["ok", "1"]},
        {"stage_type": "x", "dependencies": "parse"},
    ],
)
def test_malformed_metadata_is_refused(wrong):
    with pytest.raises(StageRegistryError):
        StageMetadata(**wrong)


def test_overrides_make_another_value_and_leave_the_registered_one():
    """M17: pipeline scope, the global registration untouched."""
    metadata = StageMetadata("x", state_key="a", dependencies=["parse"])
    changed = metadata.with_overrides({"state_key": ["b", "c"], "dependencies": ["@ledger"]})
    assert (metadata.state_keys, metadata.wants_ledger) == (("a",), False)
    assert (changed.state_keys, changed.wants_ledger) == (("b", "c"), True)
    with pytest.raises(StageRegistryError, match="stage_type"):
        metadata.with_overrides({"stage_type": "y"})


# -- inputs: row S16 of the seed systems


@pytest.fixture
def inputs():
    return StageInputs(
        {"router": {"route": "a", "n": None}, "other": [1], "carried": {"route": "z"}},
        declared=("router", "other", "skipped"),
        aliases={"The Router": "router"},
    )


def test_get_searches_the_declared_dependencies(inputs):
    assert inputs.get("route") == "a"
    assert inputs.get("n", 5) is None
    assert inputs.get("nope", 5) == 5


def test_get_from_asks_one_dependency(inputs):
    assert inputs.get_from("router", "route", default="general") == "a"
    assert inputs.get_from("The Router", "route") == "a"
    assert inputs.get_from("other", "route", default="general") == "general"
    assert inputs.get_output("other") == [1]
    assert inputs.require_from("router", "route") == "a"
    assert inputs.has_output("router")
    assert not inputs.has_output("skipped")
    with pytest.raises(StageInputError, match="'nope'"):
        inputs.require_from("router", "nope")


@pytest.mark.parametrize("method", ["get_output", "has_output"])
def test_an_undeclared_dependency_is_refused_though_its_output_travels(inputs, method):
    with pytest.raises(UndeclaredDependencyError, match=r"'carried'.*router, other, skipped"):
        getattr(inputs, method)("carried")
    with pytest.raises(UndeclaredDependencyError):
        StageInputs({}).get_from("x", "y")


@pytest.mark.parametrize(("key", "error"), [(None, TypeError), ("", ValueError), (3, TypeError)])
def test_a_key_is_a_text(inputs, key, error):
    with pytest.raises(error):
        inputs.get(key)


def test_the_value_is_the_one_output_or_all_by_name(inputs):
    assert StageInputs({"a": 1}).value == 1
    assert StageInputs({"a": 1, "b": 2}).value == {"a": 1, "b": 2}


# -- context


def test_the_snapshot_cannot_be_changed():
    snapshot = ContextSnapshot(run_id=RunIdentity(user_id="u"), input_text="Hello!")
    assert snapshot.user_id == "u"
    with pytest.raises(AttributeError):
        snapshot.input_text = "x"
    with pytest.raises(TypeError):
        snapshot.params["a"] = 1


def test_the_ledger_view_must_be_declared():
    with pytest.raises(UserError, match="ledger view") as caught:
        _ = StageContext().ledger
    assert "@ledger" in caught.value.help
    assert StageContext(ledger_view={"facts": {}}).ledger == {"facts": {}}


def test_the_document_is_read_from_data_or_parameters():
    by_data = StageContext(load_snapshot=lambda: ContextSnapshot(data={"doc_id": "d1"}))
    by_params = StageContext(load_snapshot=lambda: ContextSnapshot(params={"doc_id": "d2"}))
    assert (by_data.doc_id, by_params.doc_id, StageContext().doc_id) == ("d1", "d2", None)


def test_the_timer_counts_from_its_first_use():
    clock = ManualClock()
    ctx = StageContext(clock=clock)
    assert ctx.timer.elapsed_ms() == 0
    clock.advance(1.5)
    assert ctx.timer.elapsed_ms() == 1500


def test_emitting_an_event_never_raises():
    def broken(type, data):
        raise RuntimeError("sink is gone")

    ctx = StageContext(emit=broken)
    ctx.try_emit_event("my_stage.started", {"route": "a"})
    assert "sink is gone" in ctx.attempt_log.text()
    seen = []
    StageContext(emit=lambda *event: seen.append(event), job_id="j").try_emit_event("t", {"a": 1})
    assert seen == [("t", {"job_id": "j", "stage": "stage", "a": 1})]
    StageContext().try_emit_event("t", {"event": 1, "self": 2})


def test_the_log_is_bounded_and_keeps_the_newest():
    ctx = StageContext()
    for n in range(10_000):
        ctx.log.info("line", n=n)
    text = ctx.attempt_log.text()
    assert len(text.encode()) <= LOG_LIMIT
    assert text.endswith("info line n=9999")
    assert ctx.attempt_log.dropped > 0


def test_one_huge_line_is_bounded_too():
    ctx = StageContext()
    ctx.log.info("é" * 1_000_000)
    assert len(ctx.attempt_log.text().encode()) <= LOG_LIMIT


def test_a_value_that_cannot_be_shown_does_not_fail_the_stage():
    class Hostile:
        def __repr__(self):
            return repr(self)

    ctx = StageContext()
    ctx.log.bind(x=Hostile()).warning("a %d", "b", value=Hostile())
    assert "value=<Hostile>" in ctx.attempt_log.text()


def test_a_line_is_redacted_before_it_is_cut():
    """A cut could leave the end of a secret that no search finds."""
    log = AttemptLog(lambda line: line.replace("topsecret", "***"))
    log.write("topsecret" * 2000)
    assert "secret" not in log.text()


# -- cancelling


def test_a_token_is_set_once_and_with_its_parent():
    parent = CancelToken()
    child = CancelToken(parent)
    called = []
    child.on_set(lambda: called.append(1))
    take_back = child.on_set(lambda: called.append(2))
    take_back()
    parent.set("job cancelled")
    parent.set("again")
    assert child.cancelled
    assert child.reason == "job cancelled"
    assert called == [1]
    child.on_set(lambda: called.append(3))
    assert called == [1, 3]


async def test_a_stage_can_wait_for_the_cancel_or_check_it():
    token = CancelToken()
    ctx = StageContext(cancel=token)
    ctx.raise_if_cancelled()
    waiting = asyncio.create_task(ctx.wait_cancelled())
    await asyncio.sleep(0)
    thread = threading.Thread(target=token.set, args=("stop",))
    thread.start()
    assert await waiting == "stop"
    thread.join()
    assert ctx.cancelled
    with pytest.raises(asyncio.CancelledError):
        ctx.raise_if_cancelled()


def test_the_public_contract_is_documented():
    for thing in (Stage, BatchStage, StageContext, StageInputs, stage, tag):
        assert inspect.getdoc(thing)
