"""Seeds by the hundred: what they found, made small, kept.

python -m tests.simulation.judge --seeds 2000            # what CI runs, and how long it took
python -m tests.simulation.judge --seed 17               # one run, its trace and its faults
python -m tests.simulation.judge --seed 17 --keep NAME   # shrunk, as regressions/NAME.json
"""

import argparse
import pathlib
import time

import msgspec

from streams.observe import logs
from streams.settings import Settings
from streams.testing.checker.check import check
from tests.simulation.play import play, trace
from tests.simulation.scenario import Scenario, generate
from tests.simulation.shrink import shrink

REGRESSIONS = pathlib.Path(__file__).parent / "regressions"


def faults(scenario):
    """Everything that is wrong about a run; empty where nothing is."""
    try:
        history = play(scenario)
        late = [] if history.settled else ["C15 jobs have not ended long after the last fault"]
        judged = msgspec.structs.replace(history, settled=True)
        return late + [str(violation) for violation in check(judged)]
    except Exception as error:  # noqa: BLE001 - whatever ends a run is what it found
        return [f"the run ended with {type(error).__name__}: {error}"]


def search(seeds):
    """Seed → faults, of those that have any."""
    return {seed: found for seed in seeds if (found := faults(generate(seed)))}


def kind(found):
    """What a shrunk scenario must still show: the same rule broken."""
    return found[0].split(" ", 1)[0]


def smallest(scenario):
    """The scenario without what its fault does not need."""
    wanted = kind(faults(scenario))
    return shrink(scenario, lambda less: any(kind([f]) == wanted for f in faults(less)))


def told(scenario, found):
    """A failure as its reader needs it: what broke, and how to play it again."""
    steps = "\n".join(
        f"  {step.at:7.3f}  {step.do} {step.who} {step.what} {step.seconds or ''}".rstrip()
        for step in scenario.steps
    )
    rules = "\n".join(f"  {text}" for text in found[:8])
    again = f"python -m tests.simulation.judge --seed {scenario.seed}"
    return f"seed {scenario.seed} ({scenario.shape}) breaks:\n{rules}\nsteps:\n{steps}\n{again}"


def kept():
    """The regressions: name → scenario."""
    files = sorted(REGRESSIONS.glob("*.json"))
    return {f.stem: msgspec.json.decode(f.read_bytes(), type=Scenario) for f in files}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--keep", metavar="NAME", help="shrink the failing seed and keep it")
    options = parser.parse_args()
    logs.configure(Settings(log_level="critical"))
    if options.seed is None:
        return many(range(options.first, options.first + options.seeds))
    scenario = generate(options.seed)
    found = faults(scenario)
    if not found:
        history = play(scenario)
        print(f"seed {options.seed}: {len(history.records)} records, trace {trace(history)}: whole")
        return 0
    if options.keep:
        scenario = smallest(scenario)
        file = REGRESSIONS / f"{options.keep}.json"
        file.write_bytes(msgspec.json.format(msgspec.json.encode(scenario), indent=1) + b"\n")
    print(told(scenario, faults(scenario)))
    return 1


def many(seeds):
    began = time.process_time()
    found = search(seeds)
    for seed, what in found.items():
        print(told(generate(seed), what))
    spent = time.process_time() - began
    print(f"{len(seeds)} seeds, {len(found)} failed, {spent:.0f} s of one core")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
