"""Where stage types come from: built-ins, installed packages, modules beside a topology.

A broken source is listed with its reason and stops no other. A topology may name only modules that
lie beside it, or that belong to a package which declares itself a plugin: YAML decides what runs,
so it must not reach `os:system`.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from streams.authoring.faults import StageRegistryError
from streams.authoring.function_stage import tags_of
from streams.authoring.registration import StageRegistration
from streams.registry import PluginReport, StageRegistry, is_stage_class
from streams.stage import registration_of

GROUP = "streams.stages"
BUILT_IN = "streams.stages.control:registrations"
_OWN = ("streams.stages", "streams.documents")
_TARGET = re.compile(
    r"(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?::(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*))?"
)


class PluginRefused(Exception):
    """The source may not be imported; the text says why."""


def load_plugins(
    registry: StageRegistry, callables: Sequence[str], *, roots: Sequence[Path]
) -> list[PluginReport]:
    """Registers what `callables` name (`module:name`, or a whole `module`); one report each.

    `roots` are the folders of the topologies. A source that is loaded already is not loaded again.
    """
    return [_loaded_once(registry, target, roots) for target in callables]


def discover(registry: StageRegistry) -> list[PluginReport]:
    """Registers the built-ins; installed plugins wait until a type of theirs is asked for."""
    reports = [_loaded_once(registry, BUILT_IN, ())]
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda p: p.name):
        if point.value == BUILT_IN:
            continue
        registry.add_source(point.name, _entry_point_loader(registry, point))
        reports += [r for r in [registry.report_of(point.name)] if r is not None]
    return reports


def unload_project_modules(roots: Iterable[Path]) -> list[str]:
    """Forgets modules that lie under `roots`, so that the next import reads them anew, and takes
    the folders off the import path, so that another project's module of the same name is found."""
    folders = [root.resolve() for root in roots]
    sys.path[:] = [entry for entry in sys.path if Path(entry) not in folders]
    gone = [
        name
        for name, module in list(sys.modules.items())
        if (file := _file_of(module)) is not None and _is_under(file, folders)
    ]
    for name in gone:
        del sys.modules[name]
    importlib.invalidate_caches()
    return sorted(gone)


def _loaded_once(registry: StageRegistry, target: str, roots: Sequence[Path]) -> PluginReport:
    known = registry.report_of(target)
    if known is not None and known.state == "loaded":
        return known
    return registry.report(_load(registry, target, lambda: _allowed_import(target, roots)))


def _entry_point_loader(
    registry: StageRegistry, point: importlib.metadata.EntryPoint
) -> Callable[[], PluginReport]:
    distribution = point.dist.name if point.dist is not None else ""
    return lambda: _load(registry, point.name, point.load, distribution)


def _load(
    registry: StageRegistry, source: str, find: Callable[[], Any], distribution: str = ""
) -> PluginReport:
    """What became of one source. A module that exits at import is broken like any other."""
    try:
        found = _register(registry, find())
    except (Exception, SystemExit) as error:  # noqa: BLE001 - plugins are strangers' code
        reason = (
            str(error)
            if isinstance(error, PluginRefused | StageRegistryError)
            else f"{type(error).__name__}: {error}"
        )
        return PluginReport(source, "broken", reason=reason, distribution=distribution)
    return PluginReport(
        source,
        "loaded",
        stages=tuple(name for name in found if "/" not in name),
        functions=tuple(name for name in found if "/" in name),
        distribution=distribution,
    )


def _register(registry: StageRegistry, target: Any) -> list[str]:
    """Registers whatever an author may point at; names what came of it."""
    if isinstance(target, ModuleType):
        found = registry.add_module(target)
        if not found:
            raise StageRegistryError(
                f"module {target.__name__} holds no stage and no @tag function"
            )
        return found
    if isinstance(target, StageRegistration):
        registry.register(target)
        return [target.type]
    if is_stage_class(target):
        registration = registration_of(target)
        registry.register(registration)
        return [registration.type]
    if tags_of(target):
        return registry.add_function(target)
    if not callable(target):
        raise StageRegistryError(
            f"points at {type(target).__name__}, not at a stage, a function that returns "
            "registrations, or a module"
        )
    returned = target()
    registrations = [returned] if isinstance(returned, StageRegistration) else returned
    if not isinstance(registrations, list | tuple) or not all(
        isinstance(item, StageRegistration) for item in registrations
    ):
        raise StageRegistryError(
            f"returned {type(returned).__name__} instead of one or several StageRegistration"
        )
    for registration in registrations:
        registry.register(registration)
    return [registration.type for registration in registrations]


def _allowed_import(target: str, roots: Sequence[Path]) -> Any:
    """The object that `module:name` names, imported only if it may be."""
    named = _TARGET.fullmatch(target)
    if named is None:
        raise PluginRefused(f"{target!r} is not of the form module:name")
    module_name, path = named["module"], named["name"]
    folders = [root.resolve() for root in roots]
    if not _is_own(module_name):
        _require_allowed(module_name.partition(".")[0], folders)
    module = importlib.import_module(module_name)
    found: Any = module
    for name in path.split(".") if path else ():
        found = getattr(found, name)
    # A name that a project's module merely imported (`from os import system`) is not its own.
    home = getattr(found, "__module__", None)
    if callable(found) and not isinstance(found, StageRegistration) and home != module_name:
        _require_home(home, folders)
    return found


def _require_home(home: object, folders: list[Path]) -> None:
    if isinstance(home, str) and not _is_own(home):
        _require_allowed(home.partition(".")[0], folders)


def _is_own(module: str) -> bool:
    return any(module == own or module.startswith(f"{own}.") for own in _OWN)


def _require_allowed(top: str, folders: list[Path]) -> None:
    """Raises unless the top-level module lies in a folder or belongs to an installed plugin."""
    for folder in folders:
        spec = importlib.machinery.PathFinder.find_spec(top, [str(folder)])
        if spec is not None and _spec_is_under(spec, folder):
            _make_importable(top, folder)
            return
    # This package declares entry points too, but most of it is not for topologies to call.
    if top not in sys.builtin_module_names and top != "streams" and _belongs_to_plugin(top):
        return
    raise PluginRefused(
        f"module {top!r} may not be imported: it is neither beside the topology nor in an "
        f"installed package with a {GROUP!r} entry point"
    )


def _make_importable(top: str, folder: Path) -> None:
    """The folder goes to the end of the path: a project's file never hides an installed module,
    it is refused with a hint instead."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    importlib.invalidate_caches()
    known = sys.modules.get(top)
    if known is not None:
        file = _file_of(known)
        if file is None or not _is_under(file, [folder]):
            raise PluginRefused(
                f"module name {top!r} is taken by {file or 'a built-in module'}; rename yours"
            )
        return
    spec = importlib.util.find_spec(top)
    if spec is None or not _spec_is_under(spec, folder):
        raise PluginRefused(f"module name {top!r} is taken by an installed module; rename yours")


def _belongs_to_plugin(top: str) -> bool:
    for distribution in importlib.metadata.distributions():
        points = [p for p in distribution.entry_points if p.group == GROUP]
        if any(p.module.partition(".")[0] == top for p in points):
            return True
        if points and top in (distribution.read_text("top_level.txt") or "").split():
            return True
    return False


def _spec_is_under(spec: importlib.machinery.ModuleSpec, folder: Path) -> bool:
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    return bool(places) and all(_is_under(Path(place).resolve(), [folder]) for place in places)


def _file_of(module: Any) -> Path | None:
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return Path(file).resolve()
    locations = list(getattr(module, "__path__", None) or ())
    return Path(str(locations[0])).resolve() if locations else None


def _is_under(file: Path, folders: Iterable[Path]) -> bool:
    return any(file.is_relative_to(folder) for folder in folders)
