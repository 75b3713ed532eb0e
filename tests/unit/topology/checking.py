"""How the tests of this folder ask the checker."""

import textwrap

from streams.topology.check import check_text
from streams.topology.findings import Finding
from streams.topology.plan import Plan


class Types:
    """A registry with the types of the source documents, two functions, and one strict config."""

    def known(self):
        return ["chunk", "download", "example-stage", "parse", "postprocess"]

    def trouble(self, source):
        return "No module named 'lost'" if source.startswith("lost:") else ""

    def check_config(self, type, config):
        return [Refused((key,), f"`{key}` is not known", "") for key in config if type == "parse"]

    def wants_ledger(self, type):
        return type == "example-stage"

    def known_functions(self):
        return ["notifications/send@v1", "tasks/clean@v2"]

    def check_arguments(self, reference, given):
        return [Refused((key,), f"no argument `{key}`", "") for key in given if key == "wrong"]


class Refused:
    def __init__(self, path, message, hint):
        self.path, self.message, self.hint = path, message, hint


def plan_of(text: str, types=None, name: str = "demo.yaml") -> Plan:
    plan, findings = check_text(textwrap.dedent(text), name, types)
    assert plan is not None, "\n".join(finding.render() for finding in findings)
    return plan


def findings_of(text: str, types=None, name: str = "demo.yaml") -> list[Finding]:
    return check_text(textwrap.dedent(text), name, types)[1]


def codes(text: str, types=None) -> list[str]:
    return [finding.code for finding in findings_of(text, types)]


def only(text: str, code: str, types=None) -> Finding:
    """The one finding of that code, which forbids the file."""
    plan, findings = check_text(textwrap.dedent(text), "demo.yaml", types)
    found = [finding for finding in findings if finding.code == code]
    assert plan is None
    assert len(found) == 1, [(finding.code, finding.message) for finding in findings]
    return found[0]


def edges(plan: Plan) -> dict[str, list[str]]:
    return {part.path: [edge.to for edge in part.edges] for part in plan.parts}
