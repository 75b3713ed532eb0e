"""One worker process of a test: agents, the keeper, or both. Ends in order on SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

from streams.app import App
from streams.observe import logs
from streams.settings import Settings


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--agents", action="store_true")
    parser.add_argument("--keeper", action="store_true")
    parser.add_argument("--pool", action="append")
    given = parser.parse_args()
    settings = Settings.load(cwd=given.folder)
    logs.configure(settings)
    app = App.from_files(*sorted(given.folder.glob("*.pipeline.yaml")), settings=settings)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await app.run(stop, pools=given.pool, keeper=given.keeper, agents=given.agents, name=given.name)


if __name__ == "__main__":
    asyncio.run(main())
