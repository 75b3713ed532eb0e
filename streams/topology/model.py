"""The grammar of a topology file, as models: what may stand where, with bounds and defaults.

The JSON Schema for editors is made from these. What holds between fields (references, cycles,
gates) is checked afterwards, in `check`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from streams.topology import durations

ID_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_-]*$"
TOPIC_PATTERN = r"^[A-Za-z0-9._-]+$"
NAME_LIMIT = 80
ID_LIMIT = 100


def refusal(code: str, message: str, hint: str = "") -> PydanticCustomError:
    """An error whose type is the finding's code."""
    return PydanticCustomError(code, "{message}", {"message": message, "hint": hint})


def _duration(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, str):
        raise refusal("T116", f"`{value}` is not a duration", durations.HELP)
    try:
        return durations.duration_ms(value)
    except ValueError as error:
        raise refusal("T116", str(error), durations.HELP) from None


def _seconds(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refusal("T116", f"`{value}` is not a number of seconds", "write a plain number: 30")
    try:
        return durations.limited_ms(value * 1000, value)
    except ValueError as error:
        raise refusal("T116", str(error), "a number of seconds above 0") from None


def _text(value: Any) -> Any:
    if isinstance(value, int | float):
        raise refusal("T108", f"`{value}` is a number where text is expected", "put it in quotes")
    return value


def _printed(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _condition(value: Any) -> Any:
    return ("true" if value else "false") if isinstance(value, bool) else value


def _names(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _version(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 10**9:
        return str(value)
    import re

    if isinstance(value, str) and re.fullmatch(VERSION_PATTERN, value):
        return value
    raise refusal(
        "T108",
        f"`{value}` is not a version",
        "a whole number from 1, or a date with an optional suffix: 2026-03-01-rc1",
    )


VERSION_PATTERN = r"[1-9]\d{0,8}|\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])(-[A-Za-z0-9]{1,32})?"
Text = Annotated[str, BeforeValidator(_text)]
Printed = Annotated[
    str, BeforeValidator(_printed), WithJsonSchema({"type": ["string", "number", "boolean"]})
]
Condition = Annotated[
    str,
    BeforeValidator(_condition),
    WithJsonSchema({"type": ["string", "boolean"], "description": "CEL, with or without ${{ }}"}),
]
Names = Annotated[
    list[Text],
    BeforeValidator(_names),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
Duration = Annotated[
    int,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", "pattern": durations.PATTERN, "examples": ["30s", "3d"]}),
]
"""Milliseconds, written with a unit."""
Seconds = Annotated[
    int,
    BeforeValidator(_seconds),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 316_224_000}),
]
"""Milliseconds, written as plain seconds."""


class Grammar(BaseModel):
    """Forbids unknown fields; `a-b` means `a_b`; `SYNONYMS` are other spellings of a field."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    SYNONYMS: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _spellings(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        fields = cls.spellings()
        found: dict[str, Any] = {}
        for key, value in data.items():
            plain = cls.SYNONYMS.get(key, key)
            if plain not in fields and plain.replace("-", "_") in fields:
                plain = plain.replace("-", "_")
            if plain in found:
                raise refusal("T102", f"`{key}` and `{plain}` are the same field", "keep one")
            found[plain] = value
        return found

    @classmethod
    def spellings(cls) -> list[str]:
        """The field names as they stand in a file."""
        return [field.alias or name for name, field in cls.model_fields.items()]


class Metadata(Grammar):
    """Who looks after the pipeline."""

    owner: Text = ""
    description: Text = ""
    tags: list[Text] = []


class ParamModel(Grammar):
    """A parameter of the pipeline."""

    SYNONYMS: ClassVar[Mapping[str, str]] = {"options": "choices", "description": "desc"}
    type: Literal[
        "string", "integer", "number", "decimal", "boolean", "date", "datetime", "choice", "list",
        "map", "str", "int", "float", "bool", "array", "dict",
    ] = "string"  # fmt: skip
    required: bool = False
    default: Any = None
    choices: list[Any] = []
    desc: Text = ""


class ClauseModel(Grammar):
    """One test of a gate's condition."""

    field: Text
    operator: Literal["exists", "equals", "changed"] = "equals"
    value: Any = None


class ExpectedModel(Grammar):
    """A test in the short spelling `{key, expected}`."""

    key: Text
    expected: Any = True


class ConditionModel(Grammar):
    """A gate's condition: one field, or clauses joined by `mode`."""

    field: Text | None = None
    equals: Any = None
    mode: Literal["all", "any"] = "all"
    clauses: list[ClauseModel] = []
    timeout_seconds: Seconds | None = None
    poll_interval_seconds: Seconds | None = None


class GateModel(Grammar):
    """A gate: what it waits for, how long, and what then."""

    SYNONYMS: ClassVar[Mapping[str, str]] = {"description": "desc"}
    name: Text = ""
    after: Text | None = None
    when: Condition | None = None
    until: Condition | None = None
    field: Text | None = None
    equals: Any = None
    condition: ConditionModel | None = None
    conditions: list[ExpectedModel] = []
    resume_stage: Text | None = None
    timeout: Duration | None = None
    timeout_seconds: Seconds | None = None
    poll_interval_seconds: Seconds | None = None
    on_timeout: Text | None = None
    metadata: dict[str, Any] = {}
    desc: Text = ""


class BackoffModel(Grammar):
    """Delay between attempts, in seconds."""

    strategy: Literal["exponential", "linear", "none"] = "exponential"
    initial: float = Field(default=0.5, ge=0, le=60)
    maximum: float = Field(default=30.0, ge=0, le=600)
    jitter: bool = True


class PolicyModel(Grammar):
    """How often and how long a stage may try."""

    max_attempts: int = Field(default=1, ge=1, le=10)
    timeout_seconds: float | None = Field(default=None, gt=0, le=86_400)
    timeout: Duration | None = None
    backoff: BackoffModel = BackoffModel()


class BatchModel(Grammar):
    """Events of many jobs in one call."""

    max_items: int = Field(default=32, ge=1, le=10_000)
    max_wait: Duration | None = None


class OverridesModel(Grammar):
    """What replaces the registered metadata of the stage type, for this stage only."""

    state_key: Text | list[Text] | None = None
    description: Text | None = None
    dependencies: list[Text] | None = None


class StageModel(Grammar):
    """One stage. Its kind is `type`, or is read off one telling key."""

    SYNONYMS: ClassVar[Mapping[str, str]] = {
        "args": "with",
        "needs": "depends_on",
        "message": "raise",
        "description": "desc",
    }
    id: Text | None = Field(default=None, pattern=ID_PATTERN, max_length=ID_LIMIT)
    name: Text | None = None
    type: Text | None = Field(
        default=None, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=ID_LIMIT
    )
    desc: Text = ""
    if_: Condition | None = Field(default=None, alias="if")
    depends_on: Names | None = None
    policy: Text | None = None
    retry: int | None = Field(
        default=None, ge=0, le=19, description="Extra attempts after the first"
    )
    pool: Text = Field(default="default", pattern=ID_PATTERN, max_length=60)
    concurrency: int = Field(default=16, ge=1, le=10_000)
    batch: BatchModel | None = None
    timeout: Duration | None = None
    config: dict[str, Any] = {}
    with_: dict[str, Any] = Field(default={}, alias="with")
    uses: Text | None = None
    echo: Printed | None = None
    sleep: Any = Field(
        default=None,
        json_schema_extra={"type": ["number", "string"], "minimum": 0, "maximum": 1800},
    )
    raise_: Printed | None = Field(default=None, alias="raise")
    gate: Text | None = None
    condition: ConditionModel | None = None
    sets: dict[str, Any] = {}
    metadata_overrides: OverridesModel | None = None
    extras: dict[str, Any] = {}


class CallableModel(Grammar):
    """A stage registration brought by the pipeline."""

    callable: Text = Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")
    replace: bool = False


class PluginsModel(Grammar):
    """What the pipeline brings itself."""

    stages: list[CallableModel] = []


class SourceModel(Grammar):
    """A topic of somebody else that the pipeline reads: each record becomes a job."""

    topic: Text = Field(pattern=TOPIC_PATTERN, max_length=249)
    format: Literal["cloudevents", "json", "avro", "debezium"] = "cloudevents"
    id: Text | None = Field(
        default=None,
        description="Expression for the job's id, over key, headers, data and event",
    )
    start: Text = Field(
        default="earliest",
        description="Where reading begins, once: earliest, latest, or a time in RFC 3339",
    )
    on_error: Literal["dead", "skip", "halt"] = Field(
        default="dead", description="What becomes of a record that cannot be read"
    )
    deletes: Literal["skip", "submit"] = Field(
        default="skip", description="What becomes of deletions: tombstones, Debezium's `d`"
    )
    registry: Text | None = Field(
        default=None, description="URL of a schema registry; default: the setting kafka.registry"
    )
    schema_: Text | None = Field(
        default=None, alias="schema", description="An Avro schema's file, beside the topology"
    )


class RetentionModel(Grammar):
    """How long rows of ended jobs are kept."""

    jobs: Duration = 7 * 86_400_000


class TopologyModel(Grammar):
    """A topology file."""

    SYNONYMS: ClassVar[Mapping[str, str]] = {"name": "pipeline"}
    pipeline: Text | None = Field(default=None, pattern=ID_PATTERN, max_length=NAME_LIMIT)
    version: Annotated[
        str,
        BeforeValidator(_version),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "integer", "minimum": 1},
                    {"type": "string", "pattern": f"^({VERSION_PATTERN})$"},
                ]
            }
        ),
    ] = "1"
    metadata: Metadata = Metadata()
    params: dict[str, ParamModel] | None = None
    source: list[SourceModel] = []
    gates: list[GateModel] = []
    stages: list[StageModel] = Field(min_length=1, max_length=5000)
    policies: dict[str, PolicyModel] = {}
    plugins: PluginsModel = PluginsModel()
    deadline: Duration | None = None
    retention: RetentionModel = RetentionModel()
    applicable_sources: list[Text] = []


MODELS: tuple[tuple[tuple[str, ...], type[Grammar]], ...] = (
    ((), TopologyModel),
    (("metadata",), Metadata),
    (("params", "*"), ParamModel),
    (("source", "*"), SourceModel),
    (("gates", "*"), GateModel),
    (("gates", "*", "condition"), ConditionModel),
    (("gates", "*", "condition", "clauses", "*"), ClauseModel),
    (("gates", "*", "conditions", "*"), ExpectedModel),
    (("stages", "*"), StageModel),
    (("stages", "*", "batch"), BatchModel),
    (("stages", "*", "condition"), ConditionModel),
    (("stages", "*", "condition", "clauses", "*"), ClauseModel),
    (("stages", "*", "metadata_overrides"), OverridesModel),
    (("stages", "*", "config"), GateModel),
    (("stages", "*", "config", "condition"), ConditionModel),
    (("stages", "*", "config", "condition", "clauses", "*"), ClauseModel),
    (("stages", "*", "config", "conditions", "*"), ExpectedModel),
    (("policies", "*"), PolicyModel),
    (("policies", "*", "backoff"), BackoffModel),
    (("plugins",), PluginsModel),
    (("plugins", "stages", "*"), CallableModel),
    (("retention",), RetentionModel),
)
"""Which model stands at which place of a file."""

LATER_KINDS: frozenset[str] = frozenset(
    "bash run trigger parallel foreach case until image stages try".split()
)
"""Telling keys of stages that later versions bring."""
LATER_FIELDS: dict[str, frozenset[str]] = {
    "policies": frozenset({"circuit_breaker", "rate_limit"}),
}
BUILT_IN: frozenset[str] = frozenset("echo sleep empty raise gate uses".split())
"""Types that need no registration."""
