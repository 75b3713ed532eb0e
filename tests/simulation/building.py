"""Plans in a few words."""

import msgspec

from streams.topology.plan import Edge, Gate, Part, Plan


def stage(path, *to, **more):
    return _part(path, "stage", to, type="t", **more)


def echo(path, *to, text="hi", **more):
    return _part(path, "echo", to, echo=text, **more)


def fault(path, *to, message="no", **more):
    return _part(path, "raise", to, message=message, **more)


def sleep(path, *to, seconds=60, **more):
    return _part(path, "sleep", to, sleep_ms=round(seconds * 1000), **more)


def gate(path, *to, aside="", condition=None, **more):
    """A gate named like its part; `aside` is where a timeout goes."""
    rule = Gate(path, **more)
    if aside:
        rule = msgspec.structs.replace(rule, on_timeout="route", on_timeout_to=aside)
    part = _part(path, "gate", to, gate=rule, condition=condition)
    if not aside:
        return part
    return msgspec.structs.replace(part, edges=(*part.edges, Edge(aside, "timeout")))


def _part(path, kind, to, *, type="", **more):
    return Part(path, kind, type or kind, edges=tuple(Edge(each) for each in to), **more)


def pipeline(*parts, **more):
    """Every way carries the outputs of all that precedes it. Parts are given in order."""
    before, done = {}, []
    for part in parts:
        own = before.setdefault(part.path, set()) | {part.path}
        carry = tuple(sorted(own))
        done.append(
            msgspec.structs.replace(
                part,
                edges=tuple(msgspec.structs.replace(e, carry=carry) for e in part.edges),
            )
        )
        for edge in part.edges:
            before.setdefault(edge.to, set()).update(own)
    return Plan("pipe", "1", tuple(done), **more)
