"""What is compared: each section measures in rounds, the contestants taking turns, and gives medians."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from tests.bench.engines import faults, lanes, latency, physical, throughput
from tests.bench.engines.contestants import Contestant
from tests.bench.engines.report import Bar, Section
from tests.bench.engines.throughput import Bench, Speed

PRODUCT = Contestant("product")
WHOLE = Contestant("product_jobs")
RAW = Contestant.parse("confluent:eos:batch=3000")
RIVALS = ("quix", "bytewax", "kafka_streams")
"""Of these the best, in whatever setting, is what the product is held against."""

FAST = (
    "product",
    "product_jobs",
    "confluent:eos:batch=3000",
    "confluent:alo",
    "quix:alo",
    "quix:eos:commit=0.2",
    "bytewax:alo",
    "kafka_streams:alo",
    "kafka_streams:eos",
    "aiokafka:alo",
    "aiokafka:eos",
    "faust:alo:take=500;best=1",
)
TWO_WORKERS = ("product", "product_jobs", "confluent:eos:batch=3000", "quix:eos:commit=0.2")
PROMPT = (
    "product",
    "product_jobs",
    "quix:alo",
    "quix:eos:commit=0.1",
    "kafka_streams:eos",
    "aiokafka:eos:linger=0",
    "confluent:eos:linger=0",
    "faust:alo",
)
SURE = ("product", "product_jobs", "product:eos:dynamic=1")
SURE_PEERS = (
    "confluent:eos:session=6000",
    "quix:eos:session=6000",
    "kafka_streams:eos:session=6000",
)
FAUST_SHARE = 10
"""faust-streaming gets this part of the documents: its rate is the same, the wait is not."""

R = TypeVar("R")
Say = Callable[[str], None]


class Amount(NamedTuple):
    """How much is measured."""

    rounds: int
    documents: int
    say: Say


def in_turn(
    contestants: Iterable[str],
    rounds: int,
    measure: Callable[[Contestant], R],
    say: Say,
) -> dict[Contestant, list[R]]:
    """Figures of each. One that fails is told and left out of that round."""
    found: dict[Contestant, list[R]] = {}
    chosen = [Contestant.parse(text) for text in contestants]
    for missing in [each for each in chosen if each.missing]:
        say(f"{missing}: not set up, see tests/bench/engines/setup.py")
    for number in range(rounds):
        for each in chosen:
            if each.missing:
                continue
            try:
                figures = measure(each)
            except Exception as error:  # noqa: BLE001 -- the others go on
                say(f"{each}: {type(error).__name__}: {error}")
                continue
            say(f"round {number + 1}, {each}: {figures}")
            found.setdefault(each, []).append(figures)
    return found


def medians(runs: list[R]) -> R:
    """The median of each field."""
    first = runs[0]
    return type(first)(*(statistics.median(field) for field in zip(*runs, strict=True)))  # type: ignore[arg-type]


def speed(bench: Bench, amount: Amount, count: int = 1) -> Section:
    """Hops a second of one worker, or of several."""

    def measure(each: Contestant) -> Speed:
        share = FAUST_SHARE if each.engine == "faust" else 1
        return throughput.measure(bench, each, amount.documents // share, count)

    wanted = FAST if count == 1 else TWO_WORKERS
    found = in_turn(wanted, amount.rounds, measure, amount.say)
    typical = {each: medians(runs) for each, runs in found.items()}
    ours = typical[PRODUCT].hops if PRODUCT in typical else 0.0
    rows = [
        (
            f"**{each}**" if each.engine.startswith("product") else str(each),
            " / ".join(f"{hops:,.0f}" for hops in _spread(run.hops for run in runs)),
            f"{ours / typical[each].hops:.2f} ×" if typical[each].hops else "",
            f"{typical[each].cpu:.0f}",
            f"{typical[PRODUCT].cpu / typical[each].cpu:.2f} ×" if PRODUCT in typical else "",
            f"{typical[each].broker:.0f}",
            f"{typical[each].rss:.0f}",
            f"{typical[each].stop:.1f}",
            _counts(runs),
        )
        for each, runs in sorted(found.items(), key=lambda pair: -typical[pair[0]].hops)
    ]
    heads = (
        "engine", "hops/s min / median / max", "Bench A is", "CPU µs/hop", "Bench A takes",
        "broker µs/hop", "peak RSS MB", "stop s", "sink and ledger",
    )  # fmt: skip
    bars: list[Bar] = []
    name = "throughput" if count == 1 else "two-workers"
    if count == 1:
        copied = [physical.measure(bench, amount.documents) for _ in range(amount.rounds)]
        limit = medians(copied)
        spread = _spread(run.hops for run in copied)
        rows.append(
            (
                "copying bytes and a ledger record",
                " / ".join(f"{hops:,.0f}" for hops in spread),
                f"{ours / limit.hops:.2f} ×",
                f"{limit.cpu:.0f}",
                "",
                "",
                "",
                "",
                "",
            )
        )
        bars = _speed_bars({each: run.hops for each, run in typical.items()})
    how = f"{_times(amount.rounds)}, {amount.documents:,} documents, {_workers(count)}."
    faster = {each: run.hops / ours for each, run in typical.items() if ours and run.hops > ours}
    return Section(name, heads, rows, bars, how, _better("more hops a second", faster))


def _speed_bars(hops: dict[Contestant, float]) -> list[Bar]:
    """What issue 5 asks of the throughput."""
    ours = hops.get(PRODUCT, 0.0)
    wanted = (
        ("the best of Quix Streams, Bytewax, Kafka Streams", RIVALS, 1.2),
        ("the raw librdkafka loop, exactly once", ("confluent",), 0.5),
        ("faust-streaming", ("faust",), 10.0),
    )
    bars = []
    for what, engines, goal in wanted:
        if engines == ("confluent",):
            best = hops.get(RAW, 0.0)
        else:
            best = max((h for each, h in hops.items() if each.engine in engines), default=0.0)
        if best:
            ratio = ours / best
            bars.append(Bar(f"Bench A to {what}", f"{ratio:.2f} ×", f"≥ {goal:g} ×", ratio >= goal))
    if ours and WHOLE in hops:
        ratio = hops[WHOLE] / ours
        bars.append(Bar("Bench B to Bench A", f"{ratio:.2f} ×", "≥ 0.5 ×", ratio >= 0.5))
    return bars


def promptness(bench: Bench, amount: Amount, rate: float = 200, seconds: float = 8) -> Section:
    """Milliseconds through four stages at a steady rate."""
    found = in_turn(
        PROMPT,
        amount.rounds,
        lambda each: latency.measure(bench, each, rate, seconds),
        amount.say,
    )
    typical = {each: medians(runs) for each, runs in found.items()}
    rows = [
        (
            f"**{each}**" if each.engine.startswith("product") else str(each),
            *(f"{value:.0f}" for value in figures[:4]),
            f"{figures.lost:.0f}",
            f"{figures.cpu:.0f} %",
        )
        for each, figures in sorted(typical.items(), key=lambda pair: pair[1].p50)
    ]
    bars = [
        Bar(f"{what}, {name}", f"{found_ms:.0f} ms", f"≤ {goal} ms", found_ms <= goal)
        for each, what, goals in ((PRODUCT, "Bench A", (60, 170)), (WHOLE, "Bench B", (100, None)))
        if each in typical
        for name, found_ms, goal in (
            ("p50", typical[each].p50, goals[0]),
            ("p99", typical[each].p99, goals[1]),
        )
        if goal is not None
    ]
    how = f"{_times(amount.rounds)}, {rate:g} documents/s for {seconds:g} s after 5 s of warm-up."
    ours = typical[PRODUCT].p50 if PRODUCT in typical else 0.0
    sooner = {
        each: ours / figures.p50 for each, figures in typical.items() if 0 < figures.p50 < ours
    }
    heads = ("engine", "p50 ms", "p90", "p99", "max", "lost", "CPU of a core")
    return Section("latency", heads, rows, bars, how, _better("sooner at the median", sooner))


def concurrency(bench: Bench, amount: Amount) -> Section:
    """One partition: a slow key beside others, and work that waits."""
    slow, waits = [], []
    waiting = max(1_000, amount.documents // 5)
    for _ in range(amount.rounds):
        slow.append(lanes.slow_key(bench, amount.documents))
        amount.say(f"slow key: {slow[-1]}")
        waits.append(lanes.waiting(bench, waiting))
        amount.say(f"waiting: {waits[-1]}")
    without, with_slow = (statistics.median(column) for column in zip(*slow, strict=True))
    in_turn_rate, at_once = (statistics.median(column) for column in zip(*waits, strict=True))
    lost = statistics.median(1 - beside / alone for alone, beside in slow)
    ratio = statistics.median(many / one for one, many in waits)
    rows = [
        ("all keys alike", f"{without:,.0f}"),
        ("a key with 1 s of work an event between them: the others", f"{with_slow:,.0f}"),
        ("10 ms of async work, one after the other", f"{in_turn_rate:,.0f}"),
        ("10 ms of async work, as shipped", f"{at_once:,.0f}"),
    ]
    bars = [
        Bar("lost beside a slow key", f"{lost:.1%}", "< 5 %", lost < 0.05),
        Bar("10 ms of async work to one by one", f"{ratio:.1f} ×", "≥ 8 ×", ratio >= 8),
    ]
    how = f"{_times(amount.rounds)}, {amount.documents:,} documents through one stage, 1 partition."
    return Section("lanes", ("one partition", "documents/s"), rows, bars, how)


def survival(bench: Bench, amount: Amount, *, times: int, rate: float, peers: bool) -> Section:
    """Kills and stalls of one of two workers."""
    rows: list[tuple[str, ...]] = []
    bars: list[Bar] = []
    wanted: list[tuple[str, faults.Fault]] = [(each, "kill") for each in SURE]
    wanted += [(each, "stall") for each in SURE[:2]]
    if peers:
        wanted += [(each, "kill") for each in SURE_PEERS]
    for text, fault in wanted:
        found = in_turn(
            [text],
            1,
            lambda each, fault=fault: faults.measure(  # type: ignore[misc]
                bench, each, fault=fault, times=times, rate=rate
            ),
            amount.say,
        )
        for each, (verdict,) in found.items():
            rows.append(_survived(each, fault, verdict))
            if each.engine.startswith("product"):
                bars += _survival_bars(each, fault, verdict)
    heads = (
        "engine", "fault", "documents", "lost", "twice", "ledger right",
        "s until 90 % of the rate", "worst s of a document", "ended by itself",
    )  # fmt: skip
    how = f"{times} faults each, {rate:g} documents/s, two workers, session 6 s."
    return Section("faults", heads, rows, bars, how)


def _survived(each: Contestant, fault: str, verdict: faults.Verdict) -> tuple[str, ...]:
    right = verdict.ended == verdict.documents and not verdict.stale
    return (
        f"**{each}**" if each.engine.startswith("product") else str(each),
        "kill -9" if fault == "kill" else f"SIGSTOP {faults.STALL:g} s",
        f"{verdict.documents:,}",
        f"{verdict.lost:,}",
        f"{verdict.twice:,}",
        "all" if right else f"{verdict.ended:,}, {verdict.stale} stale",
        " ".join(f"{value:.1f}" for value in verdict.back),
        " ".join(f"{value:.1f}" for value in verdict.worst),
        str(verdict.self_exits),
    )


def _survival_bars(each: Contestant, fault: str, verdict: faults.Verdict) -> list[Bar]:
    clean = not (verdict.lost or verdict.twice or verdict.stale)
    clean = clean and verdict.ended == verdict.documents
    what = f"{each}, {fault}"
    found = f"{verdict.lost} / {verdict.twice} / {verdict.documents - verdict.ended}"
    bars = [Bar(f"{what}: lost, twice, not right", found, "0 / 0 / 0", clean)]
    if fault == "kill" and verdict.back:
        goal = 8.0 if "dynamic" in each.options else 3.0
        slowest = max(verdict.back)
        bars.append(
            Bar(f"{what}: back at 90 %", f"{slowest:.1f} s", f"≤ {goal:g} s", slowest <= goal)
        )
    return bars


def _better(what: str, ratios: dict[Contestant, float]) -> str:
    """Which peers beat Bench A, and by how much."""
    found = [
        f"`{each}` {ratio:.2f} ×"
        for each, ratio in sorted(ratios.items(), key=lambda pair: -pair[1])
        if not each.engine.startswith("product")
    ]
    return f"Better than the product ({what}): {', '.join(found)}." if found else ""


def _spread(values: Iterable[float]) -> tuple[float, float, float]:
    found = sorted(values)
    return found[0], statistics.median(found), found[-1]


def _counts(runs: list[Speed]) -> str:
    """Whether every run's sink and ledger hold what they should; of the others how much."""
    wrong = [run for run in runs if not run.whole]
    return "; ".join(
        f"{run.unique:,} of {run.documents:,}, {run.sink - run.unique} twice, {run.ended:,} ended"
        for run in wrong
    ) or "whole"  # fmt: skip


def _times(rounds: int) -> str:
    return "One round" if rounds == 1 else f"Medians of {rounds} rounds"


def _workers(count: int) -> str:
    return "one worker process" if count == 1 else f"{count} worker processes"
