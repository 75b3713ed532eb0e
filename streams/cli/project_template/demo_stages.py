"""The demo's own stages: plain functions. `pipeline.yaml` names them under `plugins`."""

from typing import Any

from streams import StageContext, stage


@stage
def fetch(ctx: StageContext) -> dict[str, Any]:
    """The document that the job brings. A real one would come from a URL or a file."""
    return {"title": ctx.params["title"], "text": ctx.params["text"]}


@stage
def summarise(document: dict[str, Any]) -> dict[str, Any]:
    """The document's first sentence, with its number of words."""
    summary = document["text"].split(". ")[0].rstrip(".")
    return {"title": document["title"], "summary": summary, "words": len(summary.split())}


@stage
def publish(ctx: StageContext) -> dict[str, Any]:
    """The line that goes out. Edit it while `streams dev` runs: the next job has it."""
    title = ctx.inputs.get_from("summarise", "title")
    return {"line": f"{title}: {ctx.inputs.get_from('summarise', 'summary')}."}
