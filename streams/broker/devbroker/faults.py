"""What can go wrong with the broker for development, in words and codes to act on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from streams.errors import LogError, UserError

EXPLANATIONS: dict[str, str] = {
    "N001": """\
**No Java that runs Kafka.** The broker for development needs a Java of version 17 or later. Looked
for in this order: `JAVA_HOME`, `java` on the PATH, and the one that the extra `broker` brings.
Next: `pip install 'interlock-streams[broker]'`, or install a JRE of version 17 or later.""",
    "N002": """\
**Nothing here can fetch Kafka's jars.** They are fetched once, by an installed Maven (`mvn`) or by
`jgo`, which comes with the extra `broker`, and kept in your cache folder.
Next: `pip install 'interlock-streams[broker]'`. Without a network, copy the folder of jars from a
machine that has it, into the folder named in the message; checksums are verified.""",
    "N003": """\
**Kafka's jars could not be fetched.** The last lines of what Maven or jgo said are in the message:
mostly no network, or a proxy or mirror that has to be set in their own settings.
Next: mend that and start again; nothing half fetched is kept.""",
    "N004": """\
**A jar is missing or is not the one that was released.** Every jar is compared with a checksum of
this package before each start. Nothing was started.
Next: delete the folder named and start again, so that it is fetched anew. If that does not help,
whatever stands between you and the repository changes files.""",
    "N005": """\
**The port is taken.** Another program of this machine listens there, perhaps a broker of another
folder. Next: `streams broker start --port 0` takes any that is free, or name another one.""",
    "N006": """\
**The broker ended while it was starting.** The last lines of its log are in the message; the file
is named beside them. Next: mend what they say. If the data are damaged and nothing in them is
needed, `streams broker start --fresh` begins anew.""",
    "N007": """\
**The broker did not serve in time.** It was running, but gave no answer; it was ended again. A very
busy machine may be the reason. Next: read the log named in the message, and start again.""",
    "N008": """\
**A broker runs here already, and not as you asked.** It keeps its port and its number of nodes
while it runs, and its data cannot be emptied under it.
Next: `streams broker stop`, then start it as you want it.""",
    "N009": """\
**The data here do not fit.** They belong to a cluster with another number of nodes, or the file
that describes it cannot be read. Nothing was touched.
Next: start it as it was, or begin anew with `streams broker start --fresh`, which deletes them.""",
    "N010": """\
**The broker cannot be ended.** The process belongs to somebody else, or the machine does not let it
go. Next: end the process named as the user who started it.""",
}


def no_java(refused: Iterable[str]) -> LogError:
    """No candidate will do; each with the reason."""
    reasons = [f"- {reason}" for reason in refused]
    return LogError(
        "\n".join(["no Java of version 17 or later on this machine", *reasons]),
        code="N001",
        help="pip install 'interlock-streams[broker]', or install a JRE of version 17 or later",
    )


def no_fetcher(folder: Path) -> LogError:
    return LogError(
        f"Kafka's jars are not in {folder}, and neither Maven nor jgo is here to fetch them",
        code="N002",
        help="pip install 'interlock-streams[broker]'",
    )


def not_fetched(tries: Iterable[str]) -> LogError:
    """Every way to fetch failed; each with what it said."""
    return LogError(
        "\n".join(["Kafka's jars could not be fetched", *tries]),
        code="N003",
        help="mend the network, the proxy or the mirror in the tool's own settings; start again",
    )


def wrong_jars(folder: Path, wrong: Iterable[str]) -> LogError:
    return LogError(
        "\n".join([f"Kafka's jars in {folder} are not those that were released", *wrong]),
        code="N004",
        help=f"delete {folder} and start again",
    )


def port_taken(port: int, why: str) -> UserError:
    return UserError(
        f"port {port} of this machine is not to be had: {why}",
        code="N005",
        help="streams broker start --port 0 takes any that is free",
    )


def ended_early(log: Path, tail: Iterable[str]) -> LogError:
    return LogError(
        "\n".join([f"Kafka ended while it was starting; {log} ends with", *tail]),
        code="N006",
        help="mend what the log says; --fresh begins anew and deletes the data",
    )


def not_serving(log: Path, seconds: float, tail: Iterable[str]) -> LogError:
    return LogError(
        "\n".join([f"Kafka did not serve within {seconds:.0f} s; {log} ends with", *tail]),
        code="N007",
        help="start it again when the machine is less busy",
    )


def runs_otherwise(bootstrap: str, asked: str) -> UserError:
    return UserError(
        f"a broker runs here at {bootstrap}; {asked} cannot be had before it is stopped",
        code="N008",
        help="streams broker stop",
    )


def does_not_fit(message: str) -> UserError:
    return UserError(
        message, code="N009", help="start it as it was, or with --fresh, which deletes the data"
    )


def cannot_end(pid: int, why: str) -> LogError:
    return LogError(
        f"process {pid} of the broker cannot be ended: {why}",
        code="N010",
        help=f"end process {pid} as the user who started it",
    )
