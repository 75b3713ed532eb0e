"""What can be wrong between a stage's author and the engine, each with its code and next step."""

from __future__ import annotations

from streams.errors import StageError, UserError


class StageRegistryError(UserError):
    """A registration that is refused: taken already, or described wrongly."""

    code = "S405"


class StageInputError(StageError):
    """The value that came in is not what the stage declares; names the field."""

    code = "S010"
    retriable = False


class StageOutputError(StageError):
    """The answer cannot travel on; names the field."""

    code = "S011"
    retriable = False


class StageSetupError(StageError):
    """The stage cannot be built from its configuration, or its signature cannot be filled."""

    code = "S012"
    retriable = False


class UndeclaredDependencyError(UserError):
    """A stage asked for the output of a stage that it does not declare."""

    code = "S015"


EXPLANATIONS: dict[str, str] = {
    "S001": "**A stage raised an error.** The message names its type. The traceback stands in the "
    "log of the attempt (`streams history JOB`). The attempt counts; the stage's policy decides "
    "whether there is another one.",
    "S010": "**The value that came in is not what the stage declares.** The message names the "
    "field. Trying again cannot help, so no attempt is spent: change what the earlier stage "
    "returns, or the type this one declares.",
    "S011": "**A stage answered something that cannot travel.** Values between stages are JSON: "
    "mappings, lists, text, finite numbers, booleans, null, and pydantic models, dataclasses and "
    "msgspec structs made of them. The message names the place (`$.items[3].when`). Convert it in "
    "the stage; write files to a store and return their address.",
    "S012": "**A stage cannot be set up.** Its builder raised, its configuration does not fit its "
    "model, or a parameter of its function cannot be filled. The message names which.",
    "S013": "**A stage could not be opened.** `open()` raised: a connection, a model or a file is "
    "missing. The stage's policy decides whether it is tried again.",
    "S014": "**The answer holds the value of a secret.** Rows, logs and events never hold one. "
    "Return a reference to what the secret opens, not the secret.",
    "S015": "**A stage asked for the output of a stage it does not declare.** Add that stage to "
    "`depends_on`; then its output travels with the event.",
    "S020": "**An attempt took longer than its policy allows** (`timeout_seconds`). Async stages "
    "are cancelled; sync ones are told by `ctx.cancelled` and their thread is given up. Raise the "
    "timeout, or make the stage answer in smaller steps.",
    "S021": "**A stage tried to end the process** (`sys.exit`, `KeyboardInterrupt` or another "
    "exception outside `Exception`). The worker lives on; the attempt failed. Return "
    "`StageOutput.fail(...)` or raise an ordinary exception.",
    "S022": "**A stage cancelled itself**: it raised `CancelledError` though nobody cancelled it, "
    "mostly by awaiting a task that it had cancelled. Use `StageOutput.cancel(...)` to stop the "
    "job.",
    "S030": "**Cancelled.** The job was cancelled, or a stage beside it failed, while this one was "
    "running.",
    "S404": "**No stage type or function of that name is registered.** The message lists the known "
    "ones. Install the plugin, or name its callable under `plugins.stages`.",
    "S405": "**A registration is refused.** The type is taken (pass `replace=True` if that is "
    "meant) or its metadata is malformed.",
    "S406": "**A plugin could not be loaded.** The others are. The reason stands beside its name: "
    "it raised at import, is not a stage registration, or may not be imported from there. Only "
    "modules beside the topology and installed packages with a `streams.stages` entry point may.",
}
