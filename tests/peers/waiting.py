"""Stages that these tests hold up, and workers whose end they wait for."""


def ok(ctx):
    return {"of": ctx.stage_name}


def released_by(event):
    """A stage that answers once the event is set."""

    async def run(ctx):
        await event.wait()
        return {"of": ctx.stage_name}

    return run


async def ended(rig, task, *, seconds=60):
    """The task's end, which the rig does not take for the test's own."""
    rig.tasks.remove(task)
    try:
        await rig.until(task.done, seconds=seconds)
    finally:
        if not task.done():
            rig.tasks.append(task)
    return task
