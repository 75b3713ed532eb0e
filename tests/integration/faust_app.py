"""A user's Faust app with a pipeline's stages in it: `python faust_app.py FOLDER NAME`."""

import sys
from pathlib import Path

import faust

from streams.faust import attach
from streams.observe import logs
from streams.settings import Settings

folder, name = Path(sys.argv[1]), sys.argv[2]
settings = Settings.load(cwd=folder)
logs.configure(settings)

app = faust.App(
    f"{settings.namespace}-faust",
    broker=f"aiokafka://{settings.kafka.bootstrap}",
    datadir=str(folder / name),
    web_enabled=False,
    topic_disable_leader=True,
    broker_session_timeout=6.0,
    broker_heartbeat_interval=1.0,
    broker_commit_interval=0.5,
)
stages = attach(app, folder / "p.pipeline.yaml", pools=["faust"], settings=settings)


@app.timer(0.2)
async def look() -> None:
    """What an app of one's own may do with the ledger: here the test reads it."""
    found = [key.decode() for key, _ in stages.ledger.items()]
    (folder / f"{name}.rows").write_text("\n".join(sorted(found)))


if __name__ == "__main__":
    sys.argv = ["faust", "worker", "-l", "info", "--without-web"]
    app.main()
