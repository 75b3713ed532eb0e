"""Ten ways to break the product, each of which the simulation has to find.

Each takes pytest's `monkeypatch`, so that it is gone after its test. They are what one would get
wrong: what reliability.md lists for the core, and for what the core does not have yet (sinks, bulk
requests, tenants) the mistake of the same kind that it could make.
"""

import uuid

import msgspec

from streams.broker.port import Transaction
from streams.engine import intake
from streams.engine.frontier import Frontier
from streams.errors import OutcomeUnknown
from streams.runtime import group_commit, keeper, keeper_ownership
from streams.runtime.restoring import Restorer
from streams.runtime.timekeeping import LogTime
from streams.topology.plan import Naming


def splitting(patch, first, second):
    """Commits in two transactions instead of one: `first` and `second` say what goes where."""
    whole = group_commit.commit_surely

    async def commit(producer, wanted, clock):
        await whole(producer, first(wanted), clock)
        await whole(producer, second(wanted), clock)

    for module in (group_commit, keeper, keeper_ownership):
        patch.setattr(module, "commit_surely", commit)


def without(wanted, topic):
    return [record for record in wanted.records if record.topic != topic]


def only(wanted, topic):
    return [record for record in wanted.records if record.topic == topic]


def offsets_outside_the_transaction(patch):
    """What was consumed is committed a moment after what it produced."""
    splitting(
        patch,
        lambda wanted: Transaction(wanted.records),
        lambda wanted: Transaction([], wanted.offsets, wanted.membership),
    )


def random_ids(patch):
    """The same input makes other ids the second time."""
    patch.setattr("streams.engine.messages.derived_id", lambda *_: str(uuid.uuid4()))


def no_fencing(patch):
    """Offsets go without the membership that they were read under."""
    commit = group_commit.transaction
    for module in (group_commit, keeper, keeper_ownership):
        patch.setattr(module, "transaction", lambda r, o, m: _anybody(commit(r, o, m)))


def _anybody(wanted):
    """As a client does that knows nothing of generations: it names no member."""
    if wanted.membership is None:
        return wanted
    return msgspec.structs.replace(wanted, membership=wanted.membership._replace(member=""))


def local_deadlines(patch):
    """Deadlines are judged by the worker's own clock, however wrong it is."""
    patch.setattr(LogTime, "now", lambda self: self._clock.now())


def offset_before_the_work(patch):
    """An input counts as finished as soon as it was taken."""
    start = Frontier.start

    def started(self, offset):
        wanted = start(self, offset)
        if wanted:
            self.finish(offset)
        return wanted

    patch.setattr(Frontier, "start", started)


def commits_again_when_in_doubt(patch):
    """A transaction of unknown outcome is just sent again."""
    once = group_commit.commit_surely

    async def commit(producer, wanted, clock):
        try:
            await once(producer, wanted, clock)
        except OutcomeUnknown:
            await once(producer, wanted, clock)

    for module in (group_commit, keeper, keeper_ownership):
        patch.setattr(module, "commit_surely", commit)


def rows_before_outputs(patch):
    """The ledger is written in place, the rest in a second transaction."""
    ledger = Naming("t", "p").ledger
    splitting(
        patch,
        lambda wanted: Transaction(only(wanted, ledger)),
        lambda wanted: Transaction(without(wanted, ledger), wanted.offsets, wanted.membership),
    )


class Counting:
    """A reader that takes the number of records it was given for its position."""

    def __init__(self, inner):
        self.inner = inner
        self.poll, self.close = self._poll, inner.close
        self.at = {}

    def assign(self, positions):
        self.at = dict(positions)
        self.inner.assign(positions)

    async def _poll(self, most, timeout):
        records = await self.inner.poll(most, timeout)
        for record in records:
            self.at[record.place] += 1
        return records

    def position(self, place):
        return self.at[place]


class CountingLog:
    """A log whose readers count."""

    def __init__(self, inner):
        self.inner = inner
        self.watermarks = inner.watermarks

    def reader(self):
        return Counting(self.inner.reader())


def recovery_by_counting(patch):
    """A table is whole when as many records came as its offsets promise."""
    restore = Restorer.restore

    async def counted(self, partition):
        if not isinstance(self._log, CountingLog):
            self._log = CountingLog(self._log)
        return await restore(self, partition)

    patch.setattr(Restorer, "restore", counted)


def dead_letters_outside(patch):
    """A dead letter is written on its own, before the rest."""
    dead = Naming("t", "p").dead
    splitting(
        patch,
        lambda wanted: Transaction(only(wanted, dead)),
        lambda wanted: Transaction(without(wanted, dead), wanted.offsets, wanted.membership),
    )


def submits_again(patch):
    """A job that is known begins anew when it is submitted once more."""
    submit = intake.submit

    def anew(turn, event, job_id):
        if turn.read(job_id).job is not None:
            for part in list(turn.rows(job_id)):
                turn.drop(job_id, part)
        submit(turn, event, job_id)

    patch.setattr(intake, "submit", anew)


MUTANTS = (
    offsets_outside_the_transaction,
    random_ids,
    no_fencing,
    local_deadlines,
    offset_before_the_work,
    commits_again_when_in_doubt,
    rows_before_outputs,
    recovery_by_counting,
    dead_letters_outside,
    submits_again,
)
