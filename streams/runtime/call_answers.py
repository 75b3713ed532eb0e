"""What user code returned, as a verdict and JSON: checked here, once, for every kind of stage."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from streams.authoring.faults import StageOutputError
from streams.outcome import Cancel, Fail, Ok, Retry, Route, Skip, Verdict

METADATA_LIMIT = 32 * 1024
"""Bytes of metadata a stage may leave in its row."""
LONGEST_DELAY = 10 * 365 * 24 * 3600

_VERDICTS = (Ok, Skip, Fail, Retry, Cancel, Route)
_DEPTH = 200


def verdict_of(answer: Any) -> Verdict:
    """The verdict an answer stands for: itself, or success with a value."""
    if not isinstance(answer, Verdict):
        return Ok(answer)
    if not isinstance(answer, _VERDICTS):
        raise StageOutputError(f"{type(answer).__name__} is not one of the verdicts")
    if isinstance(answer, Retry):
        _check_delay(answer.after)
    if isinstance(answer, Route) and not isinstance(answer.branch, str):
        raise StageOutputError("the branch of a route must be the name of a stage")
    if isinstance(answer, Fail):
        return msgspec.structs.replace(
            answer, message=_text(answer.message), code=_text(answer.code)
        )
    if isinstance(answer, Skip | Cancel):
        return type(answer)(_text(answer.reason))
    return answer


def _text(given: object) -> str:
    try:
        return str(given)
    except Exception as error:
        raise StageOutputError(f"a reason of type {type(given).__name__} has no text") from error


def _check_delay(after: object) -> None:
    number = isinstance(after, int | float) and not isinstance(after, bool)
    if not number or not 0 <= float(str(after)) <= LONGEST_DELAY:
        raise StageOutputError("the delay of a retry must be a number of seconds, 0 or more")


def encode(value: Any) -> bytes:
    """The value as JSON; a value that JSON cannot hold is an error naming its place."""
    try:
        data = _encoder.encode(value)
    except StageOutputError:
        raise
    except RecursionError as error:
        raise StageOutputError("the answer is nested too deeply, or contains itself") from error
    except Exception as error:
        place, problem = _culprit(value) or ("$", f"{type(error).__name__}: {error}")
        raise StageOutputError(
            f"the answer cannot be written as JSON: {place} {problem}"
        ) from error
    # The encoder writes NaN as null; only an answer with a null in it can hide one.
    if b"null" in data and (found := _culprit(value)) is not None:
        raise StageOutputError(f"the answer cannot be written as JSON: {found[0]} {found[1]}")
    return data


def encode_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as plain JSON values, of a bounded size."""
    if not metadata:
        return {}
    if not (_is_mapping(metadata) and all(isinstance(key, str) for key in metadata)):
        raise StageOutputError("metadata must be a mapping with text keys")
    try:
        data = encode(dict(metadata))
    except StageOutputError as error:
        raise StageOutputError(f"metadata: {error}") from error
    if len(data) > METADATA_LIMIT:
        raise StageOutputError(
            f"metadata of {len(data)} bytes is over the limit of {METADATA_LIMIT}; "
            "return large things as the value"
        )
    decoded: dict[str, Any] = msgspec.json.decode(data)
    return decoded


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _convert(value: Any) -> Any:
    """What the encoder does not know: models, read-only mappings."""
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump(mode="json")
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(_refusal(value))


_encoder = msgspec.json.Encoder(enc_hook=_convert)


def _refusal(value: Any) -> str:
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        return "is a generator; return a list"
    if inspect.isawaitable(value):
        return "is not awaited"
    return f"is of type {type(value).__name__}"


def _culprit(value: Any, place: str = "$", depth: int = 0) -> tuple[str, str] | None:
    """Place and problem of the first thing JSON cannot hold."""
    if depth > _DEPTH:
        return place, "is nested too deeply"
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, float):
        return (
            None if math.isfinite(value) else (place, f"is {value}, which JSON has no number for")
        )
    if isinstance(value, str | int):
        return _refused_alone(value, place)
    if isinstance(value, Mapping):
        return _culprit_in_mapping(value, place, depth)
    if isinstance(value, list | tuple | set | frozenset):
        return next(
            (
                found
                for n, item in enumerate(value)
                if (found := _culprit(item, f"{place}[{n}]", depth + 1)) is not None
            ),
            None,
        )
    return _culprit_in_object(value, place, depth)


def _culprit_in_mapping(value: Mapping[Any, Any], place: str, depth: int) -> tuple[str, str] | None:
    for key, item in value.items():
        if not isinstance(key, str | int):
            return place, f"has a key of type {type(key).__name__}"
        if (found := _culprit(item, f"{place}.{key}", depth + 1)) is not None:
            return found
    return None


def _culprit_in_object(value: Any, place: str, depth: int) -> tuple[str, str] | None:
    fields: list[str] | None = None
    if isinstance(value, msgspec.Struct):
        fields = list(value.__struct_fields__)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value)]
    elif isinstance(getattr(type(value), "model_fields", None), Mapping):
        fields = list(type(value).model_fields)
    if fields is None:
        return _refused_alone(value, place)
    named = {name: getattr(value, name, None) for name in fields}
    return _culprit_in_mapping(named, place, depth) or None


def _refused_alone(value: Any, place: str) -> tuple[str, str] | None:
    try:
        _encoder.encode(value)
    except Exception as error:  # noqa: BLE001 - whatever it is, it names the place
        text = str(error) if isinstance(error, TypeError) else f"{type(error).__name__}: {error}"
        return place, _refusal(value) if "unsupported" in text else text
    return None
