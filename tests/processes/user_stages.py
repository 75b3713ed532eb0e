"""Stages of the process tests. Each run leaves a line in `<stage>.ran`, whoever runs it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from streams import Stage, StageContext, StageOutput, stage, tag
from streams.stage import BatchStage, registration_of

HERE = Path(__file__).parent


def ran(ctx: StageContext) -> None:
    with (HERE / f"{ctx.stage_name}.ran").open("a") as file:
        file.write(f"{ctx.job_id}\n")


@stage(type="work")
async def work(ctx: StageContext, given: Any) -> dict[str, Any]:
    ran(ctx)
    return {"from": ctx.stage_name, "given": given}


@stage(type="slow")
async def slow(ctx: StageContext) -> str:
    ran(ctx)
    await asyncio.sleep(float(ctx.snapshot.params.get("seconds", 30)))
    return "slept"


@stage(type="slow-thread")
def slow_thread(ctx: StageContext) -> str:
    ran(ctx)
    for _ in range(int(float(ctx.snapshot.params.get("seconds", 30)) * 20)):
        ctx.raise_if_cancelled()
        time.sleep(0.05)
    return "slept"


@stage(type="brief")
async def brief(ctx: StageContext) -> str:
    ran(ctx)
    await asyncio.sleep(0.02)
    return "ok"


@stage(type="flaky")
async def flaky(ctx: StageContext) -> Any:
    ran(ctx)
    if ctx.attempt < int(ctx.snapshot.params.get("good_at", 2)):
        raise RuntimeError(f"attempt {ctx.attempt}")
    return {"attempt": ctx.attempt}


@stage(type="not-yet")
async def not_yet(ctx: StageContext) -> Any:
    ran(ctx)
    if not (HERE / "now").exists():
        return StageOutput.retry(3.0, "later")
    return {"attempt": ctx.attempt}


@stage(type="broken-once")
async def broken_once(ctx: StageContext) -> str:
    ran(ctx)
    if not (HERE / "mended").exists():
        raise ValueError("not mended")
    return "mended"


@stage(type="deadly")
async def deadly(ctx: StageContext) -> str:
    ran(ctx)
    if ctx.job_id.startswith("poison"):
        os.kill(os.getpid(), signal.SIGKILL)
    return "lives"


@stage(type="secretive")
async def secretive(ctx: StageContext) -> Any:
    raise RuntimeError(f"refused: {ctx.config['token']}")


@stage(type="big")
async def big(ctx: StageContext, given: Any) -> str:
    ran(ctx)
    return "x" * 200_000


@stage(type="measure")
async def measure(ctx: StageContext, given: Any) -> int:
    ran(ctx)
    return len(given)


@stage(type="ledgered")
async def ledgered(ctx: StageContext) -> Any:
    return {"saw": sorted(ctx.ledger["stages"]), "fact": ctx.ledger["facts"].get("colour")}


class Upper(Stage):
    """A class with one method."""

    stage_type = "upper"

    def execute(self, ctx: StageContext, upstream: Any) -> str:
        ran(ctx)
        return str(upstream).upper()


class Together(BatchStage):
    """Several jobs in one call."""

    stage_type = "together"
    max_items = 8
    max_wait = 0.2

    async def execute_batch(self, ctxs: list[StageContext]) -> list[Any]:
        for ctx in ctxs:
            ran(ctx)
        return [{"with": len(ctxs)} for _ in ctxs]


@stage(type="choose")
def choose(ctx: StageContext) -> Any:
    return StageOutput.route(ctx.snapshot.params["way"], {"chose": ctx.snapshot.params["way"]})


@stage(type="give-up")
def give_up(ctx: StageContext) -> Any:
    return StageOutput.cancel("no use")


@tag("text", alias="greet", version="v1")
def greet(name: str, sign: str = "!") -> dict[str, str]:
    return {"said": f"hello {name}{sign}"}


def stages() -> list[Any]:
    """What the topologies of these tests may name."""
    return [
        work, slow, slow_thread, brief, flaky, not_yet, broken_once, deadly, secretive, big,
        measure, ledgered, choose, give_up, registration_of(Upper), registration_of(Together),
    ]  # fmt: skip
