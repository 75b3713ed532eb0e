"""Asking and changing where the groups of a cluster stand, from outside them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException

from streams.broker.kafka_admin import STABLE, KafkaAdmin
from streams.broker.kafka_creating import REQUEST
from streams.broker.kafka_errors import LOST_GROUP, error_of, failure
from streams.broker.kafka_futures import ended
from streams.broker.kafka_options import KafkaOptions
from streams.broker.kafka_records import (
    client_places,
    client_positions,
    committed_of,
    place_of,
)
from streams.broker.port import Committed, TopicPartition
from streams.clock import Clock
from streams.errors import LogError, LogUnavailable


class KafkaGroups:
    """Positions and members, through the admin client of a log."""

    def __init__(self, options: KafkaOptions, admin: KafkaAdmin, clock: Clock) -> None:
        self._options = options
        self._admin = admin
        self._clock = clock

    async def positions(self, group: str) -> dict[TopicPartition, Committed]:
        """What the group has committed. Waits for transactions that could still change it."""
        found = await self._committed(group, None)
        # The broker's list leaves out a partition whose first position is still under way; only who
        # asks for it by name is made to wait.
        first = [place for place in await self._assigned(group) if place not in found]
        return {**found, **(await self._committed(group, first) if first else {})}

    async def _committed(
        self, group: str, places: Collection[TopicPartition] | None
    ) -> dict[TopicPartition, Committed]:
        asked = ConsumerGroupTopicPartitions(group, client_places(places) if places else None)
        about = f"positions of {group}"
        outcome, error = await self._asked(
            lambda: self._admin.client.list_consumer_group_offsets(
                [asked], require_stable=True, request_timeout=STABLE
            ),
            about,
        )
        if error is not None:
            _raise_unless_unknown(error, about)
            return {}
        found = {place_of(each): committed_of(each) for each in outcome.topic_partitions}
        return {place: at for place, at in found.items() if at is not None}

    async def _assigned(self, group: str) -> list[TopicPartition]:
        """What its members have."""
        return sorted(
            place_of(each)
            for member in await self._described(group)
            if member.assignment is not None
            for each in member.assignment.topic_partitions
        )

    async def set_positions(
        self, group: str, positions: Mapping[TopicPartition, Committed]
    ) -> None:
        """The group, which has no members, stands at these positions."""
        if not positions:
            return
        await self._admin.require_groups()
        asked = ConsumerGroupTopicPartitions(group, client_positions(positions))
        # The seat of a member that has closed is kept for its session.
        until = self._clock.monotonic() + self._options.seat_seconds
        about = f"setting positions of {group}"
        while True:
            _, error = await self._asked(
                lambda: self._admin.client.alter_consumer_group_offsets(
                    [asked], request_timeout=REQUEST
                ),
                about,
            )
            if error is None:
                return
            if error.code() not in LOST_GROUP and error.code() != KafkaError.NON_EMPTY_GROUP:
                raise failure(error, about)
            if self._clock.monotonic() > until:
                break
            await self._clock.sleep(0.2)
        raise LogError(
            f"the group {group} has members",
            code="K027",
            help="Stop the group's workers, or wait until their session ends.",
        )

    async def delete(self, groups: Collection[str]) -> None:
        """They are gone with all their positions; unknown ones are no error, one with members is."""
        for group in groups:
            _, error = await self._asked(
                partial(
                    self._admin.client.delete_consumer_groups, [group], request_timeout=REQUEST
                ),
                f"deleting {group}",
            )
            if error is not None:
                _raise_unless_unknown(error, f"deleting {group}")

    async def members(self, group: str) -> list[str]:
        """Who is in the group now, sorted."""
        found = await self._described(group)
        return sorted(each.group_instance_id or each.client_id for each in found)

    async def _described(self, group: str) -> list[Any]:
        """Its members, as the broker shows them."""
        about = f"members of {group}"
        outcome, error = await self._asked(
            lambda: self._admin.client.describe_consumer_groups([group], request_timeout=REQUEST),
            about,
        )
        if error is not None:
            _raise_unless_unknown(error, about)
            return []
        return list(outcome.members)

    async def _asked(self, ask: Callable[[], Any], about: str) -> tuple[Any, KafkaError | None]:
        """What is answered of one group, and the error in it. A coordinator that only just became
        one is waited for, until it has read what it is asked about."""
        until = self._clock.monotonic() + STABLE
        while True:
            (outcome,) = (await ended(ask())).values()
            error = _first_error(outcome)
            if error is None:
                return outcome, None
            trouble = failure(error, about)
            if not isinstance(trouble, LogUnavailable):
                return None, error
            if self._clock.monotonic() > until:
                raise trouble
            await self._clock.sleep(0.1)


def _raise_unless_unknown(error: KafkaError, about: str) -> None:
    """A group that is not there has no members and no positions, which is no fault."""
    if error.code() != KafkaError.GROUP_ID_NOT_FOUND:
        raise failure(error, about)


def _first_error(outcome: Any) -> KafkaError | None:
    """Of a group's answer: its own, or that of one of its partitions."""
    if isinstance(outcome, KafkaException):
        return error_of(outcome)
    if isinstance(outcome, BaseException):
        raise outcome
    places = getattr(outcome, "topic_partitions", ())
    return next((each.error for each in places if each.error), None)
