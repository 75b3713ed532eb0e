"""Type-checked, never run: what a stage author writes has the types they expect."""

from dataclasses import dataclass
from pathlib import Path
from typing import assert_type

from streams.authoring.registration import StageRegistration
from streams.outcome import Ok, Skip
from streams.settings import Settings
from streams.stage import Stage, StageContext, StageOutput, stage, tag


@dataclass(frozen=True)
class Text:
    """A value between stages."""

    body: str


@stage
def count(text: Text) -> int:
    """A synchronous stage."""
    return len(text.body)


@stage(inline=True, sets=["said"])
async def say(count: int, ctx: StageContext) -> dict[str, str]:
    """An asynchronous one with options."""
    return {"said": f"{ctx.job_id}: {count}"}


@tag("notifications/send@v1")
def send(message: str) -> bool:
    """For `uses:`; stays the function it is."""
    return bool(message)


class Shout(Stage):
    """A stage as a class."""

    def execute(self, ctx: StageContext) -> Ok | Skip:
        """One call, one answer."""
        body = ctx.inputs.get_from("count", "body", "")
        return StageOutput.ok(str(body).upper()) if body else StageOutput.skip("nothing")


assert_type(count, StageRegistration)
assert_type(say, StageRegistration)
assert_type(send("x"), bool)
assert_type(StageOutput.skip("because"), Skip)
assert_type(Settings.load({"worker.concurrency": 4}, cwd=Path()), Settings)
assert_type(Settings.load().origins(), dict[str, tuple[str, str]])
