"""Lost positions: what is finished beyond the new one, what was deleted, what can be listed."""

import random

import msgspec
import pytest

from streams.broker.local import LocalLog
from streams.broker.port import Committed, Outgoing, TopicPartition, TopicSpec, Watermarks
from streams.clock import ManualClock
from streams.engine.frontier import Frontier
from streams.inspection.recovery import DAY, Recovery, after_deletion, apply, rebuilt, recoveries
from streams.inspection.standing import Stand
from streams.runtime.control import Layout
from streams.topology.plan import Naming, Part, Plan, SourceTopic

NAMING = Naming("t", "p")
PLACE = TopicPartition("t.p.a", 0)


def a_stand(low=0, high=100, committed=None):
    return Stand("t.p.pool-default", PLACE, committed, Watermarks(low, high), 0, ())


def handed_out(position, high):
    """What an agent that takes this position over would run, of all up to `high`."""
    frontier = Frontier(*position)
    return [offset for offset in range(position.offset, high) if frontier.start(offset)]


class TestMissing:
    def test_exactly_what_is_not_finished_is_handed_out(self):
        """Whatever came of each record: events end out of order."""
        chance = random.Random(7)
        for _ in range(200):
            high = chance.randint(0, 60)
            seen = [(offset, chance.random() < 0.7) for offset in range(high)]
            found = rebuilt(a_stand(high=high), seen)

            unfinished = [offset for offset, done in seen if not done]
            assert handed_out(found.proposed, high) == unfinished
            assert (found.left, found.again) == (len(unfinished), 0)

    def test_the_position_is_that_of_the_first_event_that_is_left(self):
        """Offsets between are holes: markers, or compacted away."""
        found = rebuilt(a_stand(high=9), [(0, True), (1, True), (5, False), (7, False)])

        assert found.proposed.offset == 5
        assert (found.finished, found.left) == (0, 2)

    def test_a_partition_of_which_nothing_is_finished_begins_where_it_begins(self):
        found = rebuilt(a_stand(low=3, high=5), [(3, False), (4, False)])

        assert found.proposed.offset == 3
        assert found.left == 2

    def test_what_was_taken_before_its_turn_is_listed_behind_a_long_backlog(self):
        """Priority: more is unfinished than a list can hold, and some beyond it is finished."""
        ahead = {20_000, 20_001, 20_002, 30_000}
        seen = [(offset, offset in ahead) for offset in range(40_000)]
        found = rebuilt(a_stand(high=40_000), seen)

        assert found.proposed.offset == 0
        assert (found.finished, found.again) == (4, 0)
        assert ahead.isdisjoint(handed_out(found.proposed, 40_000))

    def test_finished_events_that_no_metadata_can_list_are_told(self):
        """A hundred runs fit; nobody is told that all is well."""
        seen = [(offset, offset > 5_000 and offset % 2 == 0) for offset in range(6_000)]
        found = rebuilt(a_stand(high=6_000), seen)

        assert found.again > 0
        again = [offset for offset in handed_out(found.proposed, 6_000) if seen[offset][1]]
        assert len(again) == found.again
        assert found.left == sum(not done for _, done in seen) + found.again


class TestBelow:
    def test_what_was_deleted_unread_is_named_and_the_rest_stays_as_it_was(self):
        """2, 3 and 5 were open, all below 8 else finished; 9 and 10 were finished early."""
        frontier = Frontier(2)
        for offset in range(2, 8):
            frontier.start(offset)
        for offset in (4, 6, 7):
            frontier.finish(offset)
        frontier.start_ahead(9)
        frontier.start_ahead(10, 9)
        frontier.finish(9)
        frontier.finish(10)
        stood = Committed(*frontier.commit())
        found = after_deletion(a_stand(4, 12, stood))

        assert found.deleted == ((2, 3),)
        assert found.proposed.offset == 5
        assert handed_out(found.proposed, 12) == [5, 8, 11]
        assert found.left == 3

    def test_beyond_the_highest_that_was_taken_everything_deleted_was_unread(self):
        found = after_deletion(a_stand(20, 30, Committed(5, "1;0;;8;")))

        assert found.deleted == ((5, 5), (8, 19))
        assert found.proposed == Committed(20, "1c;0;;;")
        assert found.left == 10

    def test_what_was_finished_before_its_turn_was_not_deleted_unread(self):
        frontier = Frontier(0)
        frontier.start_ahead(3)
        frontier.finish(3)
        found = after_deletion(a_stand(6, 6, Committed(*frontier.commit())))

        assert found.deleted == ((0, 2), (4, 5))
        assert (found.finished, found.left) == (0, 0)


class TestSources:
    """Topics of others: there, a position is one number, and the reading is in order."""

    ORDERS = TopicPartition("orders", 0)

    @pytest.fixture
    async def log(self):
        clock = ManualClock()
        made = LocalLog.open(None, clock=clock)
        own = (NAMING.intake, NAMING.hold, NAMING.done, NAMING.dead, NAMING.stage("a"))
        await made.create_topics([TopicSpec(name, 1) for name in (*own, "orders")])
        tables = (NAMING.ledger, NAMING.control)
        await made.create_topics([TopicSpec(name, 1, "compact") for name in tables])
        source = SourceTopic("orders", format="json", id="${{ data.id }}")
        plan = Plan("p", "1", (Part("a", "stage", "a"),), sources=(source,))
        await self.control(made, f"plan/{plan.digest}", plan.encoded)
        await self.control(made, "active", msgspec.json.encode({"digest": plan.digest}))
        await self.control(made, "layout", msgspec.json.encode(Layout(1)))
        key = f"begun/{NAMING.source_group}/orders/0"
        await self.control(made, key, b'{"offset":1}')
        made.clock = clock
        yield made
        await made.close()

    async def control(self, log, key, value):
        await log.publish([Outgoing(NAMING.control, key.encode(), value, (), 0)])

    async def orders(self, log, *ids):
        await log.publish(
            [Outgoing("orders", None, b'{"id":"%s"}' % id.encode(), (), 0) for id in ids]
        )

    async def ended(self, log, *jobs):
        await log.publish([Outgoing(NAMING.done, job.encode(), b"{}", (), 0) for job in jobs])

    async def found(self, log, now=0) -> Recovery:
        every = await recoveries(log, NAMING, now)
        (found,) = [each for each in every if each.stand.place == self.ORDERS]
        return found

    async def test_reading_goes_on_before_the_first_record_without_a_job(self, log):
        """What comes after it may be known by another name: it is submitted again, and dropped."""
        await self.orders(log, "old", "a", "b", "c", "a")
        await self.ended(log, "a", "b")
        found = await self.found(log)

        assert found.stand.state == "missing"
        assert (found.proposed.offset, found.left) == (3, 2)

    async def test_nothing_submitted_begins_where_it_began(self, log):
        """Not at the low watermark: `start` counts once."""
        await self.orders(log, "old", "a")
        found = await self.found(log)

        assert (found.proposed.offset, found.left) == (1, 1)

    async def test_a_record_older_than_its_job_s_traces_was_submitted_if_a_later_one_was(self, log):
        """Ends are told for thirty days; a topic may be kept for years."""
        await self.orders(log, "old", "a", "b")
        log.clock.advance(40 * DAY / 1000)
        await self.orders(log, "c", "d")
        await self.ended(log, "c")
        found = await self.found(log, log.clock.now())

        assert (found.proposed.offset, found.left) == (4, 1)

    async def test_the_new_position_is_set(self, log):
        await self.orders(log, "old", "a", "b")
        await self.ended(log, "a")
        await apply(log, [await self.found(log)])

        assert await log.positions(NAMING.source_group) == {self.ORDERS: Committed(2, "1c;0;;;")}
        assert (await self.found(log)).stand.state == "fine"
