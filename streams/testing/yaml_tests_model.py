"""The grammar of a `*.test.yaml` file: what may stand where. The schema for editors is made of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from streams.topology.model import Duration, Grammar, Text, refusal

Status = Literal[
    "queued", "running", "waiting", "retrying", "succeeded", "skipped", "failed", "cancelled"
]
MAY_BE_BARE = ("crash_before_commit", "pause", "resume")
"""Steps that need nothing more to be said."""
ENDS = ("returns", "raises", "skips")


class StandInModel(Grammar):
    """What every call of a stage type answers in this test."""

    returns: Any = None
    raises: Text | None = None
    skips: Text | None = None
    retriable: bool = True

    @model_validator(mode="after")
    def _one(self) -> Self:
        _exactly_one(self, ENDS, "a stand-in")
        return self


class GivenModel(Grammar):
    """How the world is before the first step."""

    stages: dict[str, StandInModel] = Field(default_factory=dict)
    facts: dict[str, Any] = Field(default_factory=dict)
    secrets: dict[str, Text] = Field(default_factory=dict)


class SubmitModel(Grammar):
    """A job to submit."""

    id: Text
    params: dict[str, Any] = Field(default_factory=dict)
    data: Any = None
    pipeline: Text | None = None


class FactModel(Grammar):
    """Facts to set: of a job, or without one of all jobs."""

    job: Text | None = None
    set: dict[str, Any] = Field(min_length=1)


class FailModel(Grammar):
    """The next calls of a stage fail."""

    stage: Text
    error: Text = "a failure was asked for"
    times: int = Field(default=1, ge=1, le=1000)
    retriable: bool = True


class StageModel(Grammar):
    """A stage, or none in particular."""

    stage: Text | None = None


class GateModel(Grammar):
    """A job at a gate."""

    job: Text
    gate: Text
    reason: Text = ""


class JobModel(Grammar):
    """A job."""

    job: Text
    reason: Text = ""


class RetryModel(Grammar):
    """An ended job that is to run again."""

    SYNONYMS: ClassVar[Mapping[str, str]] = {"from": "start"}
    job: Text
    start: Text | None = None
    reason: Text = ""


class StageExpectModel(Grammar):
    """How a stage of a job stands."""

    status: Status | None = None
    attempts: int | None = None
    outputs: Any = None
    reason: Text | None = None
    error: Text | None = None


class JobExpectModel(Grammar):
    """How a job stands."""

    status: Status | None = None
    at: Text | None = None
    stages: dict[str, Status | StageExpectModel] = Field(default_factory=dict)
    facts: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    attempts: int | None = None
    reason: Text | None = None
    error: Text | None = None


class LetterModel(Grammar):
    """A dead letter."""

    reason: Text | None = None
    stage: Text | None = None
    job: Text | None = None
    error: Text | None = None
    state: Literal["open", "redriven", "discarded"] | None = None


class ExpectModel(Grammar):
    """What must be so now."""

    jobs: dict[str, Status | JobExpectModel] = Field(default_factory=dict)
    held: dict[str, list[Text]] = Field(default_factory=dict)
    outputs: dict[str, dict[str, Any]] = Field(default_factory=dict)
    dlq: list[LetterModel] | None = None
    done: list[Text] | None = None


class StepModel(Grammar):
    """One thing that happens. Afterwards everything runs until nothing more happens by itself."""

    submit: SubmitModel | None = None
    send: dict[str, Any] | None = None
    fact: FactModel | None = None
    advance: Duration | None = None
    fail_next: FailModel | None = None
    crash_before_commit: StageModel | None = None
    release: GateModel | None = None
    reject: GateModel | None = None
    cancel: JobModel | None = None
    pause: StageModel | None = None
    resume: StageModel | None = None
    retry: RetryModel | None = None
    redrive: JobModel | None = None
    expect: ExpectModel | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        _exactly_one(self, tuple(type(self).model_fields), "a step")
        if getattr(self, self.kind) is None and self.kind not in MAY_BE_BARE:
            raise refusal("U103", f"`{self.kind}` has no value")
        return self

    @property
    def kind(self) -> str:
        """Which of the fields it is."""
        return next(iter(self.model_fields_set))


class CaseModel(Grammar):
    """One test."""

    SYNONYMS: ClassVar[Mapping[str, str]] = {"when": "steps"}
    name: Text = Field(min_length=1)
    given: GivenModel = GivenModel()
    steps: list[StepModel] = Field(default_factory=list)
    expect: ExpectModel | None = None


class FileModel(Grammar):
    """A file of tests."""

    topology: Text = Field(min_length=1)
    partitions: int = Field(default=3, ge=1, le=64)
    given: GivenModel = GivenModel()
    tests: list[CaseModel] = Field(min_length=1)


def _exactly_one(model: Grammar, names: tuple[str, ...], what: str) -> None:
    given = [name for name in names if name in model.model_fields_set]
    if len(given) != 1:
        said = f"has {' and '.join(f'`{name}`' for name in given)}" if given else "has none"
        raise refusal("U104", f"{what} has exactly one of its keys; this one {said}", _or(names))


def _or(names: tuple[str, ...]) -> str:
    return f"one of: {', '.join(names)}"


def schema_text() -> str:
    """The JSON Schema of a test file, for editors: sorted keys, two spaces."""
    schema = FileModel.model_json_schema(by_alias=True)
    for model in (RetryModel, CaseModel):
        properties = schema["$defs"][model.__name__]["properties"]
        for other, field in model.SYNONYMS.items():
            properties[other] = properties[field]
    for name in MAY_BE_BARE:
        properties = schema["$defs"]["StepModel"]["properties"]
        properties[name] = {"anyOf": [{"$ref": "#/$defs/StageModel"}, {"type": "null"}]}
    whole = {
        **schema,
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tests of a pipeline",
    }
    return json.dumps(whole, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
