"""Every error of the package, one tree, split by who has to act.

    StreamsError
    ├── UserError               whoever called: a wrong argument, command or event
    │   ├── EventError          an event or record that breaks the specification
    │   ├── TopologyError       a topology file with faults, all of them (`topology.findings`)
    │   ├── ExpressionError     an expression that cannot be evaluated
    │   ├── NotFoundError       a job, pipeline, stage or topic that is not there
    │   └── StageResolutionError  a stage type or function nobody registered
    ├── StageError              the stage's author: user code raised or answered nonsense
    └── LogError                the operator: the log below us
        ├── TransactionAborted  nothing of it is visible; the same values may be committed again
        ├── OutcomeUnknown      perhaps committed, perhaps not; re-read before going on
        ├── Fenced              somebody else owns this now; stop at once
        ├── LogUnavailable      out of reach for the moment
        ├── TopicError          missing, wrong shape, or refused settings
        └── OffsetLost          retention passed a committed offset; never skipped in silence

Each error has a stable `code` (see `streams explain CODE`), one sentence that says what is wrong,
and `help`, the next step.
"""

from __future__ import annotations


class StreamsError(Exception):
    """Root of all errors raised on purpose by this package."""

    code = "E000"
    retriable = False

    def __init__(self, message: str, *, code: str | None = None, help: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.help = help
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return self.message


class UserError(StreamsError):
    """The caller can mend it."""

    code = "E001"


class EventError(UserError):
    """An event or record that breaks the specification; `field` names the culprit."""

    code = "V001"

    def __init__(
        self, message: str, *, code: str | None = None, field: str = "", help: str = ""
    ) -> None:
        super().__init__(message, code=code, help=help)
        self.field = field


class ExpressionError(UserError):
    """An expression that is refused, or that failed on its values; `source` is its text."""

    code = "X001"

    def __init__(
        self, message: str, *, code: str | None = None, source: str = "", help: str = ""
    ) -> None:
        super().__init__(message, code=code, help=help)
        self.source = source


class NotFoundError(UserError):
    """The thing named is not there."""

    code = "E404"


class StageResolutionError(UserError):
    """No stage type or function of that name is registered."""

    code = "S404"


class StageError(StreamsError):
    """User code failed; becomes a `fail` verdict at the one failure boundary."""

    code = "S001"
    retriable = True


class LogError(StreamsError):
    """The log below us; the operator can mend it."""

    code = "K000"


class TransactionAborted(LogError):
    """Nothing of the transaction is visible; the same values may be committed again."""

    code = "K010"
    retriable = True


class OutcomeUnknown(LogError):
    """The transaction may or may not have been committed: re-read before doing anything."""

    code = "K011"


class Fenced(LogError):
    """This member or producer was superseded: whatever it holds belongs to somebody else."""

    code = "K012"


class LogUnavailable(LogError):
    """The log cannot be reached now."""

    code = "K013"
    retriable = True


class TopicError(LogError):
    """A topic is missing, has the wrong shape, or was refused."""

    code = "K014"


class OffsetLost(LogError):
    """The committed offset lies below the log's start: events were deleted before they were read."""

    code = "K015"


EXPLANATIONS: dict[str, str] = {
    "E000": """\
**An error without a code of its own.** The message says what is wrong.
Next: run the command again with `--debug` and report what it prints.""",
    "E001": """\
**What was asked for cannot be done as it was asked.** The message names the part that is wrong.""",
    "E404": """\
**The thing named is not there.** The message says what was looked for, and where.""",
    "K000": """\
**The log refused, for a reason without a code of its own.** Next: `streams doctor`.""",
}
