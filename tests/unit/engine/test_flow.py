"""One step of one job."""

import gc

from streams.engine.flow import Flow
from streams.engine.messages import Origin
from streams.engine.payload import Payload
from streams.topology.plan import Naming
from tests.simulation.building import pipeline, stage


def test_a_step_is_freed_without_the_garbage_collector():
    """A flow that held itself would keep the events of its step until the next full look."""
    plan = pipeline(stage("a", "j"), stage("b", "j"), stage("j"))
    gc.collect()
    gc.disable()
    try:
        flow = Flow(plan, Naming("test", "pipe"), Origin("j1", "j1", 1, plan.digest), 0)
        flow.end(plan.by_path["a"], "SUCCESS", "parent", Payload())
        assert [action.topic for action in flow.actions[1:]] == ["test.pipe.hold"]
        del flow
        assert gc.collect() == 0
    finally:
        gc.enable()
