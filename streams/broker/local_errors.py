"""What can go wrong with the embedded log, in words and codes that the operator can act on."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from streams.errors import LogError, LogUnavailable, OutcomeUnknown, TransactionAborted

EXPLANATIONS: dict[str, str] = {
    "K010": (
        "**Transaction aborted.** Nothing of it is visible. The worker commits the same values "
        "again by itself.\n\nNext step: none, unless it repeats; then read the message of the log."
    ),
    "K011": (
        "**Outcome unknown.** The log failed while it was committing: the transaction may or may "
        "not be there. The worker opens its producer anew and reads back what was committed.\n\n"
        "Next step: look at the disk; `streams doctor` checks the file."
    ),
    "K012": (
        "**Fenced.** Another process took over this member, its partitions or its producer id, "
        "for example because this one was stopped for longer than the session timeout.\n\n"
        "Next step: none if a worker was restarted; else give each worker a name of its own."
    ),
    "K013": (
        "**The log cannot be reached now.**\n\n"
        "Next step: see the message; the worker tries again by itself."
    ),
    "K014": (
        "**Topic missing or refused.** The topic does not exist, has another number of "
        "partitions, or the name or record is not one a topic takes.\n\n"
        "Next step: `streams apply` creates what the topology needs."
    ),
    "K015": (
        "**Events were deleted before they were read.** Retention or a trim passed the committed "
        "offset of a group. Nothing is skipped in silence.\n\n"
        "Next step: `streams recover` shows what is lost and sets the new position."
    ),
    "K020": (
        "**The log file is damaged.** SQLite found pages that contradict each other, as after a "
        "failing disk or a copy made while the file was in use.\n\n"
        "Next step: stop all workers, keep the file, restore a backup, or save what is readable "
        "with `sqlite3 FILE .recover`."
    ),
    "K021": (
        "**The file is not a log.** It is no SQLite database, or one of another program; it was "
        "not touched.\n\nNext step: give another path, or move the file away."
    ),
    "K022": (
        "**The log file is newer than this program.** A later version wrote it.\n\n"
        "Next step: upgrade `interlock-streams` in this environment."
    ),
    "K023": (
        "**The log file cannot be opened or written.** Folder missing, rights, a read-only disk, "
        "or a file system without shared memory (some network drives).\n\n"
        "Next step: put the log on a local disk where this user may write."
    ),
    "K024": (
        "**The log file stayed locked.** Another process held its write lock for more than 5 s; "
        "a process stopped in the middle of a commit does that.\n\n"
        "Next step: find out who has the file open (`fuser FILE`) and resume or end it."
    ),
    "K025": (
        "**The disk is full.** Nothing of the transaction was written.\n\n"
        "Next step: make room; the worker goes on by itself."
    ),
    "K026": (
        "**Record refused.** Larger than 16 MiB, without a key in a compacted topic, or a "
        "position with more than 4,000 characters of metadata.\n\n"
        "Next step: large data belongs into the blob store; the event carries its `dataref`."
    ),
    "K027": (
        "**The group has members.** Positions may be set only while nobody reads.\n\n"
        "Next step: stop the group's workers, or wait until their session ends."
    ),
    "K028": (
        "**Used out of order.** A closed log, a consumer that has not subscribed, a partition "
        "that is not assigned, or offsets without the membership they were read under.\n\n"
        "Next step: this is a fault of the program; report it with the message."
    ),
}

RECORD_LIMIT = 16 * 1024 * 1024
METADATA_LIMIT = 4_000

_UNWRITABLE = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
}
_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def misuse(message: str) -> LogError:
    """The error for a call that the port does not allow."""
    return LogError(message, code="K028")


def _primary(error: sqlite3.Error) -> int:
    # The low byte is the kind; the rest refines it. Errors of the module itself carry no code.
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def translated(error: sqlite3.Error, path: Path | None) -> LogError:
    """The error of this package that says what SQLite's means for the operator."""
    where = str(path) if path is not None else "the log in memory"
    kind = _primary(error)
    if kind in _LOCKED:
        return LogUnavailable(
            f"{where} stayed locked by another process",
            code="K024",
            help=f"See who has it open (fuser {where}); a stopped process may hold the lock.",
        )
    if kind == sqlite3.SQLITE_FULL:
        return LogUnavailable(
            f"no room on the disk of {where}", code="K025", help="Make room; nothing is lost."
        )
    if kind == sqlite3.SQLITE_NOTADB:
        return LogError(
            f"{where} is not a log: {error}", code="K021", help="Give another path, or move it."
        )
    if kind == sqlite3.SQLITE_CORRUPT:
        return LogError(
            f"{where} is damaged: {error}",
            code="K020",
            help="Stop all workers, keep the file, restore a backup.",
        )
    if kind in _UNWRITABLE:
        return LogUnavailable(
            f"{where} cannot be opened or written: {error}",
            code="K023",
            help="Check that the folder exists on a local disk and that this user may write there.",
        )
    if isinstance(error, sqlite3.ProgrammingError):
        return misuse(f"{where} is closed or used wrongly: {error}")
    return LogUnavailable(f"{where}: {error}", help="See `streams doctor`.")


def failed_commit(error: sqlite3.Error, path: Path | None, rolled_back: bool) -> LogError:
    """The error of a COMMIT that failed: known to be undone, or unknown.

    Locks and a full disk leave nothing behind. After an I/O error whole frames may lie in the
    write-ahead log, not visible now but found by the next recovery: nobody can know.
    """
    if rolled_back or _primary(error) in _LOCKED | {sqlite3.SQLITE_FULL}:
        return translated(error, path)
    return OutcomeUnknown(
        f"{path if path is not None else 'the log in memory'} failed while committing: {error}",
        help="Open the producer anew and read back what was committed.",
    )


def aborted(error: LogUnavailable) -> TransactionAborted:
    """The same trouble, told as the known end of a transaction."""
    return TransactionAborted(
        f"nothing was written: {error.message}", code=error.code, help=error.help
    )
