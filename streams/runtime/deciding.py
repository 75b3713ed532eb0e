"""One decision about one job, whatever goes wrong with it: the partition always goes on.

What can be laid at an event's door raises, and the event becomes a dead letter. Where there is no
event to blame, the fault is logged and the job is looked at again later. A value that is gone from
the blob store for good ends its job; a store that is away lets the keeper begin anew.
"""

from __future__ import annotations

from collections.abc import Callable

from streams.blobs import BlobError, BlobStore
from streams.engine import completion
from streams.engine.payload import BlobMissing, BlobRef
from streams.engine.rows import Failure
from streams.engine.turn import Turn
from streams.errors import LogUnavailable, StreamsError
from streams.observe.logs import get_logger
from streams.runtime.batch import Batch
from streams.runtime.state import State

EXPLANATIONS: dict[str, str] = {
    "K042": """\
**The keeper could not decide on an event, by a fault of its own.** The event is among the dead
letters with its original bytes; the log of the keeper has the traceback. Nothing of it was done.
Next: report it with both; `streams dlq redrive` sends the event again.""",
    "V049": """\
**An event is too large for the log.** Submissions and foreign events hold at most 4 MiB.
Next: put the data into the blob store and send its address as `dataref`.""",
}

log = get_logger(__name__)

Decide = Callable[[Turn], None]


class Undecided(StreamsError):
    """A fault of the engine; the decision was undone."""

    code = "K042"


class Decisions:
    """Makes decisions, with the values of the blob store that they need."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    async def make(self, batch: Batch, state: State, scope: str, decide: Decide) -> None:
        """Decides; where a value of the blob store is needed, reads it and decides again."""
        while True:
            turn = batch.turn(state)
            try:
                decide(turn)
            except BlobMissing as missing:
                turn.undo_input()
                gone = await self._load(turn, missing.ref)
                if gone is not None:
                    _fail(batch.turn(state), scope, gone)
                    return
            except StreamsError:
                turn.undo_input()
                raise
            except Exception as error:
                turn.undo_input()
                log.exception("job.undecided", job=scope)
                raise Undecided(f"{type(error).__name__}: {error}") from error
            else:
                return

    async def about(self, batch: Batch, state: State, scope: str, decide: Decide) -> bool:
        """As `make`, where there is no event to blame: a fault costs its job this one look. False
        then."""
        try:
            await self.make(batch, state, scope, decide)
        except LogUnavailable:
            raise
        except StreamsError as error:
            log.error("job.undecided", job=scope, code=error.code, error=error.message)
            return False
        return True

    async def _load(self, turn: Turn, ref: BlobRef) -> BlobError | None:
        """The turn has the value then; else the reason why nobody ever will."""
        try:
            turn.blobs = {**turn.blobs, ref.url: await self._blobs.value(ref)}
        except BlobError as error:
            if error.retriable:
                raise LogUnavailable(error.message, code=error.code) from error
            return error
        return None


def _fail(turn: Turn, scope: str, error: BlobError) -> None:
    """Ends a job that can never go on. One that is not there, or over, has only its event."""
    job = turn.read(scope).job
    if job is None or job.ended:
        raise error
    failure = Failure(error.code, error.message)
    completion.stop(turn, scope, "FAILED", reason=error.message, err=failure)
    completion.follow(turn, scope)
