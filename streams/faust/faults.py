"""What can go wrong between a pipeline and a Faust app, in words and codes to act on."""

from __future__ import annotations

from streams.errors import LogError, UserError

EXPLANATIONS: dict[str, str] = {
    "F001": """\
**The extra `faust` is not installed.** `streams.faust` needs faust-streaming and aiokafka, which the
base install leaves out, and cramjam, by which aiokafka reads what workers have compressed.
Next: `pip install 'interlock-streams[faust]'`.""",
    "F002": """\
**Stages on Faust run at least once.** Faust's `exactly_once` commits an event's outputs and its
offset in different transactions, so it promises what it does not keep. Stages attached to such an
app would be repeated after a crash all the same, and nobody would expect it.
Next: `processing_guarantee="at_least_once"` for this app (derived ids make a repeat harmless), or
run the stages with `streams worker`, which is exactly once.""",
    "F003": """\
**The Faust app is set up in a way that stages cannot run on.** The message names the setting:
another transport than aiokafka (only that one can be told to leave out what was rolled back), or
`consumer_auto_offset_reset` other than `earliest` (events would be passed over).
Next: change that setting, before `attach`.""",
    "F004": """\
**Workers of `streams worker` run the same stages.** Faust reads with a group of its own, so every
event would be run twice: once there, once here.
Next: give the stages that Faust is to run a pool of their own (`pool: faust`), start the workers with
the other pools (`--pool default --keeper yes`), and attach with `pools=["faust"]`.""",
    "F005": """\
**The file has nothing that Faust could run.** It holds several pipelines (attach each by a file of
its own), or none of its stages with user code is of the pools asked for.""",
}


def not_installed(missing: str) -> UserError:
    """A package of the extra is not there."""
    return UserError(
        f"streams.faust needs the package {missing}, which is not installed",
        code="F001",
        help="pip install 'interlock-streams[faust]'",
    )


def exactly_once() -> UserError:
    """The app asks for what Faust does not keep."""
    return UserError(
        'stages on Faust run at least once; this app says processing_guarantee="exactly_once"',
        code="F002",
        help='say "at_least_once", or run the stages with `streams worker` (exactly once)',
    )


def unfit(setting: str, found: object, needed: str) -> UserError:
    """A setting of the app."""
    return UserError(
        f"the Faust app has {setting}={found}; stages need {needed}",
        code="F003",
        help=f"set {setting}={needed} before attach()",
    )


def workers_at_work(pool: str, members: list[str]) -> LogError:
    """The stages have somebody who runs them."""
    return LogError(
        f"{len(members)} of `streams worker` run the stages of pool {pool}: {', '.join(members)}",
        code="F004",
        help="give Faust's stages a pool of their own, or let those workers serve other pools",
    )


def nothing_to_run(reason: str) -> UserError:
    """The file and the pools do not give any agent."""
    return UserError(reason, code="F005", help="`streams graph FILE` shows stages and pools")
