"""docs/ledger.md, drawn from the table of transitions.

python -m tests.docs.ledger_page > docs/ledger.md
"""

from collections.abc import Iterator
from textwrap import fill

from streams.engine.rows import PUBLIC
from streams.engine.transitions import TRANSITIONS, RowKind, State, Transition

KINDS: dict[RowKind, tuple[str, str, str]] = {
    "stage": ("A stage", "`<stage>`", "Work that runs in a worker: a stage type or `uses`."),
    "folded": (
        "A part without code of yours",
        "`<stage>`",
        "`echo`, `raise` and the like, with one way in: done with the step before, in one with it.",
    ),
    "held": (
        "A gate or a sleep",
        "`<stage>`",
        "The waiting event stands in the row, so that nothing else has to remember it.",
    ),
    "delayed": (
        "A retry that waits",
        "`<stage>~`",
        "Beside the stage's own row, which says RETRYING.",
    ),
    "arrival": (
        "An arrival at a join",
        "`<stage>~<upstream>`",
        "One for each way in; the join starts with the last of them.",
    ),
    "dead": (
        "A failed input",
        "`<stage>~dead`",
        "The event as it came, for a retry of the job; its bytes are in the dead letters too.",
    ),
    "job": ("The job", "`@job`", "Its status is the status of the whole."),
    "input": ("What was submitted", "`@input`", "Written once."),
    "fact": ("A fact of the job", "`@fact/<name>`", "The newest value."),
    "early": (
        "A signal that came first",
        "`@early/<id>`",
        "Kept for an hour, until the job it is for is submitted.",
    ),
}
EARLIER = "earlier"
"""In a diagram: any version of a lower turn, which the first one of the next turn replaces."""

HEAD = """\
# The ledger: the life of a row

<!-- Drawn from streams/engine/transitions.py by `python -m tests.docs.ledger_page`. -->

Everything that is known about a job stands in rows of the ledger, one for each part of it, under
the key `job|part`. These are all the ways in which a row changes. Nothing in the product writes
another: the tests hold every row they write against this table, and make each of its lines happen
(`tests/unit/engine/test_transitions_coverage.py`).

- Each row has one writer. The *agent* runs stages, the *keeper* decides everything else; a part
  without code of yours is written by whoever does the step before it.
- Versions of a row rise in (epoch, turn). An epoch is one run of the job, each retry of the job
  begins the next; a turn is one delivery of a part. What ended in a turn changes no more in it.
- Rows go a week after the job's end, or after the pipeline's `retention`.

{statuses}
"""
QUEUED = "A part without a row is `queued` once its inputs are there."


def page() -> str:
    """The page as it should stand."""
    statuses = ", ".join(f"{code} is `{word}`" for code, word in PUBLIC.items())
    words = f"Codes in rows and the words of the commands: {statuses}. {QUEUED}"
    return "\n".join([HEAD.format(statuses=fill(words, 100)), *(section(kind) for kind in KINDS)])


def section(kind: RowKind) -> str:
    """One kind of row: what it is, its diagram, its lines."""
    title, part, words = KINDS[kind]
    lines = [line for line in TRANSITIONS if line.row == kind]
    table = ["| from | when | to | writer |", "|---|---|---|---|", *map(_table_row, lines)]
    parts = [f"## {title}", fill(f"Part {part}. {words}", 100), _diagram(lines), "\n".join(table)]
    return "\n\n".join(parts) + "\n"


def _diagram(lines: list[Transition]) -> str:
    return "\n".join(["```mermaid", "stateDiagram-v2", *_arrows(lines), "```"])


def _arrows(lines: list[Transition]) -> Iterator[str]:
    if any(line.lower for line in lines):
        yield f'    state "of an earlier turn" as {EARLIER}'
    for line in lines:
        label = line.trigger.replace("`", "").replace(":", ",")
        froms = [_node(before) for before in _sorted(line.before)]
        for source in [*froms, *([EARLIER] if line.lower else [])]:
            yield f"    {source} --> {_node(line.after)}: {label}"


def _node(state: State) -> str:
    return state or "[*]"


def _sorted(states: frozenset[State]) -> list[State]:
    order: list[State] = [None, "KEPT", *PUBLIC]  # type: ignore[list-item]
    return sorted(states, key=order.index)


def _table_row(line: Transition) -> str:
    froms = [state or "no row" for state in _sorted(line.before)]
    if line.lower:
        froms.append("any of an earlier turn")
    writer = " or ".join(sorted(line.writer))
    return f"| {', '.join(froms)} | {line.trigger} | {line.after or 'no row'} | {writer} |"


if __name__ == "__main__":
    print(page(), end="")
