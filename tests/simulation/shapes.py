"""The pipelines that the seeds play with: small, and between them with everything that can wait.

What a stage answers depends on nothing but the seed, the stage, the job and the attempt.
"""

import asyncio
import functools
import textwrap
import zlib

from streams.outcome import Fail, Skip
from streams.registry import StageRegistry
from streams.stage import stage
from streams.topology.check import check_text

FATAL = {"j2"}
"""Jobs whose `fatal` stages fail for good."""

LINE = """
stages:
  - {name: one, type: quick}
  - {name: two, type: slow, depends_on: [one]}
  - {name: three, type: quick, depends_on: [two]}
"""
DIAMOND = """
policies: {mine: {max_attempts: 9, backoff: {strategy: linear, initial: 1, maximum: 4}}}
gates: {go: {after: one, until: facts.go}}
stages:
  - {name: one, type: quick}
  - {name: left, type: slow, policy: mine, depends_on: [one]}
  - {name: right, type: flaky, policy: mine, depends_on: [one]}
  - {name: say, echo: "${{ stages.left.outputs.n }}", depends_on: [left]}
  - {name: both, type: quick, depends_on: [say, right]}
"""
WAITS = """
gates:
  soon: {after: one, until: facts.soon, timeout: 3s, on_timeout: continue}
  shared: {after: nap, until: facts.open}
stages:
  - {name: one, type: quick}
  - {name: nap, sleep: 2s, depends_on: [one]}
  - {name: two, type: quick, depends_on: [nap]}
  - {name: three, type: quick, depends_on: [one, two]}
"""
FAILURES = """
policies: {twice: {max_attempts: 2, backoff: {strategy: linear, initial: 2, maximum: 2}}}
gates: {go: {after: one, until: facts.go, timeout: 4s, on_timeout: fail}}
stages:
  - {name: one, type: quick}
  - {name: two, type: fatal, policy: twice, depends_on: [one]}
  - {name: maybe, type: skips, if: "params.n != 1", depends_on: [one]}
  - {name: three, type: quick, depends_on: [two, maybe]}
"""
SEVERAL = """
stages:
  - {name: one, type: quick, concurrency: 1}
  - {name: many, type: quick, concurrency: 4, depends_on: [one]}
  - {name: a, type: slow, depends_on: [many]}
  - {name: b, type: quick, depends_on: [many]}
  - {name: c, type: flaky, depends_on: [many]}
  - {name: join, type: quick, depends_on: [a, b, c]}
"""

TEXTS = {"line": LINE, "diamond": DIAMOND, "waits": WAITS, "failures": FAILURES, "several": SEVERAL}


class Bench:
    """What the stages of the run under way draw from."""

    seed = 0


def draw(ctx, salt=""):
    """A number in [0, 1) that the call alone decides."""
    text = f"{Bench.seed} {ctx.stage_name} {ctx.job_id} {ctx.attempt} {salt}"
    return zlib.crc32(text.encode()) / 2**32


async def quick(ctx):
    return {"n": 1}


async def slow(ctx):
    await asyncio.sleep(draw(ctx) * 2)
    return {"n": draw(ctx)}


async def flaky(ctx):
    if draw(ctx) < 0.4:
        raise ValueError("not this time")
    return 1


async def fatal(ctx):
    if ctx.job_id in FATAL:
        return Fail("never", "U001", retriable=draw(ctx) < 0.5)
    return 1


async def skips(ctx):
    return Skip("no need") if draw(ctx) < 0.5 else {"n": 2}


@functools.cache
def registry():
    made = StageRegistry()
    for function in (quick, slow, flaky, fatal, skips):
        made.register(stage(type=function.__name__)(function))
    return made


@functools.cache
def plan(shape):
    text = "pipeline: p\n" + textwrap.dedent(TEXTS[shape])
    found, findings = check_text(text, f"{shape}.yaml", registry())
    assert found is not None, "\n".join(finding.render() for finding in findings)
    return found
