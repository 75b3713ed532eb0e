"""What the stages of the load do: a little work, and harm where a job asks for it.

This file is copied beside the trial's topology: a topology names only modules that lie there.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
import zlib
from pathlib import Path
from typing import Any

from streams.stage import StageContext, stage

TOO_MUCH = 10 << 30
"""Bytes that no worker of a trial is allowed."""
CLOSED = "closed"
"""While a file of this name lies in the trial's folder, whatever a stage asks for is closed."""


@stage(type="chaos-step")
async def step(ctx: StageContext) -> dict[str, Any]:
    """Takes some milliseconds; which ones, the job decides."""
    drawn = zlib.crc32(f"{ctx.job_id} {ctx.stage_name}".encode()) / 2**32
    await asyncio.sleep(0.002 + 0.01 * drawn)
    return {"token": ctx.params.get("token"), "drawn": round(drawn, 3)}


@stage(type="chaos-flaky")
async def flaky(ctx: StageContext) -> dict[str, Any]:
    """One job in ten fails the first time, and says more than it should."""
    drawn = zlib.crc32(f"{ctx.job_id} flaky".encode()) % 10
    await asyncio.sleep(0.002)
    if drawn == 0 and ctx.attempt == 1:
        raise RuntimeError(f"refused with {ctx.config['key']}")
    return {"token": ctx.params.get("token"), "attempt": ctx.attempt}


@stage(type="chaos-harm")
async def harm(ctx: StageContext) -> str:
    """Does what the job's parameter `harm` says; nothing for most."""
    kind = ctx.params.get("harm")
    if kind == "raise":
        raise ValueError("it cannot be done")
    if kind == "exit":
        sys.exit(3)
    if kind == "segv":
        ctypes.string_at(0)
    if kind == "memory":
        bytearray(TOO_MUCH)
    return "unharmed"


@stage(type="chaos-spin")
def spin(ctx: StageContext) -> str:
    """Never comes back where the job's parameter `harm` is `loop`."""
    while ctx.params.get("harm") == "loop":
        pass
    return "done"


@stage(type="chaos-shop")
def shop(_: StageContext) -> str:
    """Fails while it is closed."""
    if Path(CLOSED).exists():
        raise RuntimeError("closed")
    return "served"


def stages() -> list[Any]:
    """What the topology of a trial may name."""
    return [step, flaky, harm, spin, shop]
