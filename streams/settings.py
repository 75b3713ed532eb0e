"""Settings of this process: flag > `STREAMS_SECTION__KEY` > streams.yaml > default (CF-1).

The only reader of the environment. Every value knows its origin, so that
`streams config show --origin` can say why a process behaves as it does. What belongs to a
pipeline stands in its topology file, never here.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints
from urllib.parse import urlsplit, urlunsplit

import msgspec

from streams.errors import UserError

FILE_NAME = "streams.yaml"
STATE_DIR = ".streams"
ENV_PREFIX = "STREAMS_"

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]{1,64}$")]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
WorkerName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{0,100}$")]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "console"]


class WorkerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one worker process works."""

    name: WorkerName = ""
    """The same after a restart, and no other worker's: a pod's name, say. Default: one of the state
    dir's slots. Of several processes of one worker each adds its number."""
    concurrency: Positive = 64
    """Synchronous stages running at once in this process: each takes a thread."""
    drain_seconds: Seconds = 30.0
    """After SIGTERM: how long running stages may finish before they are given up."""
    port: Port | None = None
    """Where metrics and health are served; 0 takes any that is free. Default: nowhere."""
    host: str = "127.0.0.1"
    """The address of this machine that the port is opened on."""


class KafkaSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The cluster that keeps the log; without one it is kept in a file."""

    bootstrap: str = ""
    """Brokers to begin with, `HOST:PORT`, several with commas. Empty: the embedded log."""
    options: dict[str, str | int | float | bool] = {}
    """Options of the client library (librdkafka), by their own names: TLS, SASL, timeouts. In the
    environment a JSON object. Their values are never shown."""
    registry: str = ""
    """URL of the schema registry for sources in Avro that name none."""
    production: bool = False
    """Refuse topics that could lose what was acknowledged: fewer than three replicas, fewer than
    two in sync, unclean leader election."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One process's settings; `load` gives them checked."""

    namespace: Name = "default"
    """First part of every topic's name."""
    state_dir: Path = Path(STATE_DIR)
    """Where the embedded log, its blobs and snapshots lie."""
    log: Path = Path(STATE_DIR, "log.db")
    """The embedded log's file. Default: `log.db` in the state dir."""
    blobs: str = ""
    """URL of the blob store, for data over 48 KiB. Default: `blobs` in the state dir."""
    partitions: Positive = 4
    """Partitions of a new pipeline's topics; an existing one keeps what it has."""
    kafka: KafkaSettings = KafkaSettings()
    worker: WorkerSettings = WorkerSettings()
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"
    """`auto`: coloured on a terminal, JSON lines anywhere else."""
    secrets_dir: Path | None = None
    """A folder with one file a secret, for `${{ secrets.x }}`."""
    sources: dict[str, str] = {}
    """Key → where its value comes from; read it through `origins`."""

    @classmethod
    def load(
        cls, overrides: Mapping[str, object] | None = None, cwd: Path | None = None
    ) -> Settings:
        """Checked settings. `overrides` are the flags given, by dotted key; None means not given.

        `streams.yaml` and the state dir are looked for in `cwd` and its parents; the nearest
        folder that has one of them is the project. Raises `SettingsError` with all faults.
        """
        here = (cwd or Path.cwd()).resolve()
        project = _project(here)
        faults: list[Fault] = []
        given = _merge(
            [
                _from_file(project / FILE_NAME, faults),
                _from_environment(environment(), here, faults),
                _from_flags(overrides or {}, here, faults),
            ]
        )
        values: dict[str, Any] = {}
        for key, source in given.items():
            try:
                values[key] = _convert(key, source)
            except (msgspec.ValidationError, ValueError) as wrong:
                why = str(wrong).split(" - at `$`")[0]
                faults.append(Fault("C012", source.place, f"`{key}`: {why}", ""))
        if faults:
            raise SettingsError(faults)
        return _build(values, {key: s.place for key, s in given.items()}, project)

    def origins(self) -> dict[str, tuple[str, str]]:
        """Key → (value as text, secrets masked; origin), for every key there is."""
        return {key: (_text(_lookup(self, key)), self.sources.get(key, "default")) for key in KEYS}


class Fault(NamedTuple):
    """One thing wrong with the settings."""

    code: str
    place: str
    message: str
    help: str


class SettingsError(UserError):
    """The settings cannot be used; `faults` holds all of them."""

    code = "C010"

    def __init__(self, faults: list[Fault]) -> None:
        lines = [f"{f.place}: {f.message}" + (f" ({f.help})" if f.help else "") for f in faults]
        super().__init__("\n".join(lines), code=faults[0].code, help=faults[0].help)
        self.faults = tuple(faults)


EXPLANATIONS: dict[str, str] = {
    "C010": f"""**The settings file cannot be read.** `{FILE_NAME}` must be a YAML mapping of
settings. Nothing was started. Mend the place named, then run `streams config show --origin`.""",
    "C011": f"""**Unknown setting.** `{FILE_NAME}` or a flag names a key that does not exist;
a misspelt key would otherwise be a setting without effect. Topology keys belong into the
topology's own file. `streams config show --origin` lists every key.""",
    "C012": """**A setting has the wrong type or is out of range.** Durations are numbers of
seconds or a number with a unit: `500ms`, `30s`, `15m`, `3h`, `7d`, `2w`. The message names the
place that won: a flag beats the environment, which beats the file.""",
    "C013": f"""**Unknown setting in the environment.** A variable `{ENV_PREFIX}SECTION__KEY` names
a section that exists and a key that does not. Variables with `{ENV_PREFIX}` in front that name no
section are left alone, since orchestrators inject such names for a service called `streams`.""",
}


class _Source(NamedTuple):
    value: object
    place: str
    base: Path
    """Relative paths count from here."""


def environment() -> Mapping[str, str]:
    """The process's environment as it is now; nothing else in the package reads it."""
    return dict(os.environ)


def _project(here: Path) -> Path:
    for folder in (here, *here.parents):
        if (folder / FILE_NAME).is_file() or (folder / STATE_DIR).is_dir():
            return folder
    return here


def _from_file(path: Path, faults: list[Fault]) -> dict[str, _Source]:
    """What the file sets, each key with its line."""
    if not path.is_file():
        return {}
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap
    from ruamel.yaml.error import YAMLError

    try:
        tree = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except (YAMLError, OSError, UnicodeDecodeError) as broken:
        mark = getattr(broken, "problem_mark", None)
        place = f"{path.name}:{mark.line + 1}:{mark.column + 1}" if mark else path.name
        why = getattr(broken, "problem", None) or str(broken).splitlines()[0]
        faults.append(Fault("C010", place, f"cannot be read: {why}", ""))
        return {}
    if tree is None:
        return {}
    if not isinstance(tree, CommentedMap):
        faults.append(Fault("C010", f"{path.name}:1:1", "must be a mapping of settings", ""))
        return {}

    def walk(node: CommentedMap, prefix: str) -> Iterator[tuple[str, _Source]]:
        for key, value in node.items():
            line, column = node.lc.key(key)
            place, name = f"{path.name}:{line + 1}:{column + 1}", f"{prefix}{key}"
            if name in SECTIONS and isinstance(value, CommentedMap):
                yield from walk(value, f"{name}.")
            elif name in SECTIONS:
                faults.append(Fault("C012", place, f"`{name}` must be a mapping", ""))
            elif name not in KEYS:
                faults.append(_unknown("C011", place, name))
            else:
                yield name, _Source(value, place, path.parent)

    return dict(walk(tree, ""))


def _from_environment(
    variables: Mapping[str, str], here: Path, faults: list[Fault]
) -> dict[str, _Source]:
    found: dict[str, _Source] = {}
    for variable in sorted(variables):
        if not variable.startswith(ENV_PREFIX):
            continue
        key = variable.removeprefix(ENV_PREFIX).lower().replace("__", ".")
        if key in KEYS:
            found[key] = _Source(variables[variable], f"env {variable}", here)
        elif key.partition(".")[0] in SECTIONS and "." in key:
            faults.append(_unknown("C013", f"env {variable}", key))
    return found


def _from_flags(
    overrides: Mapping[str, object], here: Path, faults: list[Fault]
) -> dict[str, _Source]:
    faults.extend(_unknown("C011", "flag", key) for key in overrides if key not in KEYS)
    return {
        key: _Source(value, "flag", here)
        for key, value in overrides.items()
        if key in KEYS and value is not None
    }


def _merge(layers: list[dict[str, _Source]]) -> dict[str, _Source]:
    """Later layers win, key by key."""
    return {key: source for layer in layers for key, source in layer.items()}


def _unknown(code: str, place: str, key: str) -> Fault:
    near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.6)
    hint = f"did you mean `{near[0]}`?" if near else "see `streams config show --origin`"
    return Fault(code, place, f"unknown setting `{key}`", hint)


_PIECE = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def _duration(value: object) -> float:
    """Seconds, from a number of them or from pieces with units (`1h30m`)."""
    refused = ValueError(f"a duration such as `500ms`, `30s` or `7d`, not {value!r}")
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise refused
    pieces = _PIECE.findall(value) if isinstance(value, str) else []
    if pieces and "".join(map("".join, pieces)) == value:
        return sum(float(number) * _UNIT_MS[unit] for number, unit in pieces) / 1000
    try:
        return float(value)
    except ValueError:
        raise refused from None


def _object(text: str) -> object:
    """A JSON object. What is in it may be secret: a refusal does not repeat it."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise ValueError("a JSON object of options is wanted") from None


def _convert(key: str, source: _Source) -> object:
    kind, value = KEYS[key], source.value
    if kind is Path or kind == Path | None:
        if not isinstance(value, (str, Path)) or not str(value):
            raise ValueError(f"a path, not {value!r}")
        return (source.base / Path(value).expanduser()).resolve()
    if kind is Seconds:
        value = _duration(value)
    if key == "kafka.options" and isinstance(value, str):
        value = _object(value)
    return msgspec.convert(value, kind, strict=not source.place.startswith("env "))


def _build(values: dict[str, Any], sources: dict[str, str], project: Path) -> Settings:
    """Settings with the defaults that follow from other values filled in."""
    state = values.setdefault("state_dir", project / STATE_DIR)
    values.setdefault("log", state / "log.db")
    values.setdefault("blobs", (state / "blobs").as_uri())
    sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    top: dict[str, Any] = {}
    for key, value in values.items():
        section, _, leaf = key.rpartition(".")
        (sections[section] if section else top)[leaf] = value
    return Settings(
        **top,
        kafka=KafkaSettings(**sections["kafka"]),
        worker=WorkerSettings(**sections["worker"]),
        sources=sources,
    )


def _lookup(settings: Settings, key: str) -> object:
    value: object = settings
    for step in key.split("."):
        value = getattr(value, step)
    return value


def _text(value: object) -> str:
    if isinstance(value, dict):  # options of a client: some of them are passwords
        return ", ".join(f"{name}=***" for name in sorted(value))
    text = "" if value is None else str(value)
    parts = urlsplit(text)
    if parts.password or parts.username:
        return urlunsplit(parts._replace(netloc=f"***@{parts.netloc.rpartition('@')[2]}"))
    return text


def _keys(model: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, kind in get_type_hints(model, include_extras=True).items():
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            yield from _keys(kind, f"{prefix}{name}.")
        elif name != "sources":
            yield f"{prefix}{name}", kind


KEYS: dict[str, Any] = dict(_keys(Settings))
"""Every dotted key → its type."""
SECTIONS: frozenset[str] = frozenset(key.partition(".")[0] for key in KEYS if "." in key)
