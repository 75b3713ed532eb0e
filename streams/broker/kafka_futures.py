"""The admin client's answers, awaited all together."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Mapping
from typing import Any, TypeVar

from confluent_kafka import KafkaException

from streams.broker.kafka_errors import error_of, failure, stuck

K = TypeVar("K")
Futures = Mapping[K, "concurrent.futures.Future[Any]"]

LATEST_ANSWER = 20.0
"""Seconds; each request has a time of its own, which is shorter."""


async def ended(futures: Futures[K]) -> dict[K, Any]:
    """What each gave or raised. Raises `LogUnavailable` if one does not end."""
    waiting = {key: asyncio.wrap_future(future) for key, future in futures.items()}
    _, late = await asyncio.wait(waiting.values(), timeout=LATEST_ANSWER)
    if late:
        raise stuck("kafka.admin")
    return {key: future.exception() or future.result() for key, future in waiting.items()}


async def whole(futures: Futures[K], doing: str) -> dict[K, Any]:
    """What each gave; raises the first error among them."""
    outcomes = await ended(futures)
    for outcome in outcomes.values():
        if isinstance(outcome, KafkaException):
            raise failure(error_of(outcome), doing) from outcome
        if isinstance(outcome, BaseException):
            raise outcome
    return outcomes
