"""Random plans whose outcome is known in advance, for the simulations."""

import random

import msgspec
from hypothesis import strategies as st

from streams.outcome import Cancel, Fail, Ok, Retry, Route, Skip
from streams.topology.plan import Edge, Gate, Part, Plan

NEVER = "has(facts.never)"
STAGE_ANSWERS = ("ok", "skip", "route", "later")
BAD_ANSWERS = ("fail", "late_fail", "cancel")


class Sketch(msgspec.Struct):
    """A plan, what its stages answer, and how it has to end."""

    plan: Plan
    answers: dict
    expected: dict[str, str]
    """Status of every part that is reached when all goes well."""
    taken: dict[str, list[str]]
    """Where every part goes on to."""
    outputs: dict
    """What every part hands on."""
    bad: frozenset[str]
    """Parts that fail or cancel the job until they are mended."""

    def __repr__(self):
        lines = [
            f"{part.path} {part.gate.on_timeout if part.gate else part.kind}"
            f"{' @ledger' if part.ledger else ''} → {' '.join(edge.to for edge in part.edges)}"
            f" {str(self.answers.get(part.path, ''))[:120]}"
            for part in self.plan.parts
        ]
        return "Sketch:\n  " + "\n  ".join(lines)


@st.composite
def sketches(draw, *, bad=False, most=8):
    """Up to eight parts; ways only lead from a part to one with a higher number."""
    count = draw(st.integers(1, most))
    pick = random.Random(draw(st.integers(0, 2**32)))
    density = draw(st.sampled_from((0.2, 0.35, 0.6)))
    ways = {
        up: [to for to in range(up + 1, count) if pick.random() < density] for up in range(count)
    }
    return _sketch(pick, ways, bad=bad)


def _sketch(pick, ways, *, bad):
    parts, answers, taken, status, broken = [], {}, {}, {}, set()
    for number, to in ways.items():
        name = f"p{number}"
        names = [f"p{each}" for each in to]
        part, end, goes = _part(pick, name, names, answers)
        parts.append(part)
        taken[name], status[name] = goes, end
        if bad and part.kind == "stage" and pick.random() < 0.35:
            broken.add(name)
            answers[name] = _bad(pick, answers[name])
    expected = {}
    for part in parts:
        ups = [up for up in parts if any(edge.to == part.path for edge in up.edges)]
        if not ups or any(up.path in expected and part.path in taken[up.path] for up in ups):
            expected[part.path] = status[part.path]
    outputs = {part.path: _output(answers.get(part.path)) for part in parts}
    plan = Plan("pipe", "1", tuple(parts))
    return Sketch(plan, answers, expected, taken, outputs, frozenset(broken))


def _output(answer):
    last = answer[-1] if isinstance(answer, list) else answer
    return getattr(last, "value", None)


def _part(pick, name, to, answers):
    kind = pick.choice(["stage"] * 5 + ["view", "echo", "sleep", "open", "route", "skip"])
    edges = tuple(Edge(each, carry=(name,)) for each in to)
    if kind in ("stage", "view"):
        answer = pick.choice(STAGE_ANSWERS)
        part = Part(name, "stage", "t", edges=edges, ledger=kind == "view")
        if answer == "route" and to:
            branch = pick.choice(to)
            answers[name] = Route(branch, "x" * pick.choice([1, 2_000]))
            return part, "SUCCESS", [branch]
        answers[name] = {
            "skip": Skip(), "later": [Retry(5), Ok(1)],
        }.get(answer, Ok("y" * pick.choice([1, 2_000])))  # fmt: skip
        return part, "SKIPPED" if answer == "skip" else "SUCCESS", to
    if kind == "echo":
        wanted = pick.random() < 0.7
        part = Part(name, "echo", "echo", edges=edges, echo="hi", condition=str(wanted).lower())
        return part, "SUCCESS" if wanted else "SKIPPED", to
    if kind == "sleep":
        return Part(name, "sleep", "sleep", edges=edges, sleep_ms=700), "SUCCESS", to
    if kind == "open":
        gate = Gate(name, when="false", until=NEVER)
        return Part(name, "gate", "gate", edges=edges, gate=gate), "SUCCESS", to
    if kind == "route" and to:
        side = pick.choice(to)
        edges = tuple(
            msgspec.structs.replace(e, kind="timeout") if e.to == side else e for e in edges
        )
        gate = Gate(name, until=NEVER, timeout_ms=900, on_timeout="route", on_timeout_to=side)
        return Part(name, "gate", "gate", edges=edges, gate=gate), "SUCCESS", [side]
    gate = Gate(name, until=NEVER, timeout_ms=900, on_timeout="skip")
    return Part(name, "gate", "gate", edges=edges, gate=gate), "SKIPPED", to


def _bad(pick, good):
    """Goes wrong once (in its own way), then answers as it should."""
    wrong = {
        "fail": [Fail("no", retriable=False)],
        "late_fail": [Retry(4), Fail("no", retriable=False)],
        "cancel": [Cancel("enough")],
    }[pick.choice(BAD_ANSWERS)]
    return [*wrong, *(good if isinstance(good, list) else [good])]
