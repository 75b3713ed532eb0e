"""The same seed is the same run, in this process and in any other."""

import subprocess
import sys

from streams.testing import TopologyTester

STORY = '''
import sys
from streams.broker.port import TopicPartition
from streams.inspection.scan import scan
from streams.testing import TopologyTester

TEXT = """
pipeline: p
version: 1
gates: {g: {after: a, until: facts.ok == true, timeout: 3d, on_timeout: continue}}
stages:
  - {name: a, type: a, policy: default}
  - {name: b, type: b, depends_on: [a], policy: default}
"""

def story(seed):
    with TopologyTester(TEXT, stages={"a": 1, "b": 2}, seed=seed) as t:
        for n in range(12):
            t.submit(id=f"j{n}")
        t.fail_next("a", "boom", times=3)
        t.crash_before_commit("a")
        t.run_until_idle()
        t.fact("j3", ok=True)
        t.crash_before_commit()
        t.advance(days=4)
        told = [repr(each) for topic in ("a", "b", "done", "hold") for each in t.events(topic)]
        places = [TopicPartition("test.p.done", number) for number in range(3)]

        async def keys():
            return [record.key async for record in scan(t._world.client.log, places)]

        told.append(t._world.run(keys()))
        return repr((t.calls, t.crashes, t.now, t.done, told))
'''


def told(hash_seed: str) -> str:
    """The story as another process tells it."""
    done = subprocess.run(
        [sys.executable, "-c", f"{STORY}\nprint(story(7))"],
        env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_runs_are_equal_event_for_event():
    """Ids, offsets, jitter, who crashed: a failing test can be looked at again."""
    space: dict = {"TopologyTester": TopologyTester}
    exec(STORY, space)

    assert space["story"](7) == space["story"](7)
    assert space["story"](7) != space["story"](8)


def test_other_processes_tell_the_same():
    """Nothing hangs on the order of sets, which every process has its own way with."""
    assert told("1") == told("2")
