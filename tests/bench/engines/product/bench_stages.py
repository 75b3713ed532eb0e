"""Stages of the comparison: as little work as the peers' programs do, or work that waits."""

import asyncio
from typing import Any

from streams import stage

SLOW = "doc-00000000"


@stage(inline=True)
def change(document: dict[str, Any]) -> dict[str, Any]:
    """One field is another."""
    document["stage"] += 1
    return document


@stage
async def slow_for_one(document: dict[str, Any]) -> dict[str, Any]:
    """As `change`; a second of work for one document."""
    if document["doc"] == SLOW:
        await asyncio.sleep(1.0)
    return document


@stage
async def wait(document: dict[str, Any]) -> dict[str, Any]:
    """10 ms of somebody else's work."""
    await asyncio.sleep(0.01)
    return document
