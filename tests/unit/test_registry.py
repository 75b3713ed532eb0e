"""A registry is handed things; it knows what it was handed, and says what it does not know."""

import types

import pytest
from pydantic import BaseModel, ConfigDict

from streams.errors import StageResolutionError
from streams.registry import (
    ConfigFault,
    PluginReport,
    StageDefinition,
    StageFactory,
    StageMetadata,
    StageRegistration,
    StageRegistry,
    StageRegistryError,
)
from streams.stage import Stage, StageSetupError, stage, tag
from streams.stages.control import registrations


class Storage(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    base_path: str
    retries: int = 3


class DownloadConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    storage: Storage
    urls: list[str] = []


@stage(config=DownloadConfig)
def download(url: str) -> str:
    """Fetches."""
    return url


class Upper(Stage):
    """Upper case."""

    def execute(self, ctx):
        return str(ctx.inputs.value).upper()


@tag("tasks", alias="process_csv")
def process(path: str, *, limit: int = 3) -> dict:
    return {"path": path, "limit": limit}


@pytest.fixture
def registry():
    return StageRegistry()


def a_stage(name="x", **kw):
    return StageMetadata(stage_type=name, **kw)


def test_a_duplicate_is_refused_unless_it_replaces(registry):
    """M14."""
    registry.register_stage(metadata=a_stage(), builder=lambda d: Upper())
    with pytest.raises(StageRegistryError, match="'x' is registered already"):
        registry.register_stage(metadata=a_stage(), builder=lambda d: Upper())
    newer = registry.register_stage(metadata=a_stage(), builder=lambda d: Upper(), replace=True)
    assert registry.resolve("x") is newer


def test_stage_types_are_sorted(registry):
    for name in ("b", "a", "c"):
        registry.register_stage(metadata=a_stage(name), builder=lambda d: Upper())
    assert registry.stage_types() == ["a", "b", "c"] == registry.known()


def test_an_unknown_type_names_the_known_and_the_nearest(registry):
    registry.register(download)
    with pytest.raises(StageResolutionError, match=r"'downlaod' \(known: download\)") as caught:
        registry.resolve("downlaod")
    assert caught.value.help == "did you mean 'download'?"


def test_the_mapping_of_stages_cannot_be_changed(registry):
    """001's deprecated path, direct mutation, is refused."""
    with pytest.raises(TypeError):
        registry.stages["x"] = download


def test_a_module_is_registered_as_a_whole(registry):
    module = types.ModuleType("mine")
    Upper.__module__ = "mine"
    module.Upper, module.download, module.process, module.Stage = Upper, download, process, Stage
    assert sorted(registry.add_module(module)) == [
        "download",
        "tasks/process_csv@latest",
        "upper",
    ]
    assert registry.add_module(module)
    assert registry.known_functions() == ["tasks/process_csv@latest"]


def test_something_else_than_a_registration_is_refused(registry):
    with pytest.raises(StageRegistryError, match="not a stage registration but dict"):
        registry.register({})
    with pytest.raises(StageRegistryError, match="not callable"):
        registry.register_stage(metadata=a_stage(), builder=None)
    with pytest.raises(StageRegistryError, match="not marked with @tag"):
        registry.add_function(len)


def test_latest_is_the_tagged_one_or_else_the_highest(registry):
    def version(name):
        @tag(f"api/send@{name}")
        def function():
            return name

        return function

    for name in ("v2", "v10", "v9"):
        registry.add_function(version(name))
    assert registry.resolve_function("api/send").function() == "v10"
    assert registry.resolve_function("api/send@v2").function() == "v2"
    registry.add_function(version("latest"))
    assert registry.resolve_function("api/send@latest").function() == "latest"
    with pytest.raises(StageRegistryError):
        registry.add_function(version("v2"))


def test_an_unknown_function_names_the_nearest(registry):
    registry.add_function(process)
    with pytest.raises(StageResolutionError) as caught:
        registry.resolve_function("tasks/proces_csv@latest")
    assert caught.value.help == "did you mean 'tasks/process_csv@latest'?"


def test_all_faults_of_a_config_are_found_with_their_paths(registry):
    registry.register(download)
    faults = registry.check_config(
        "download", {"storage": {"base_path": 3, "retires": 1}, "url": [], "urls": ["a", 1]}
    )
    assert [fault.path for fault in faults] == [
        ("storage", "base_path"),
        ("storage", "retires"),
        ("urls", 1),
        ("url",),
    ]
    assert faults[3].hint == "did you mean 'urls'?"


def test_a_missing_field_is_found_and_a_template_is_left_for_the_run(registry):
    registry.register(download)
    config = {"storage": {"base_path": "x", "retries": "${{ params.n }}"}, "urls": "${{ data }}"}
    assert registry.check_config("download", config) == []
    assert registry.check_config("download", {"storage": "${{ params.s }}"}) == []
    missing = registry.check_config("download", {})
    assert missing == [ConfigFault(("storage",), "Field required")]


def test_any_config_will_do_where_there_is_no_model(registry):
    registry.register_stage(metadata=a_stage(), builder=lambda d: Upper())
    assert registry.check_config("x", {"anything": [1]}) == []


def test_arguments_of_a_function_are_checked_by_its_parameters(registry):
    registry.add_function(process)
    assert registry.check_arguments("tasks/process_csv", {"path": "x"}) == []
    faults = registry.check_arguments("tasks/process_csv", {"paht": "x"})
    assert [(f.path, f.hint) for f in faults] == [
        (("paht",), "did you mean 'path'?"),
        ((), "add path: …"),
    ]


def test_a_waiting_source_is_loaded_when_its_type_is_asked_for(registry):
    """Installed plugins cost nothing until they are used."""
    loaded = []

    def source(name, type):
        def load():
            loaded.append(name)
            registry.register_stage(metadata=a_stage(type), builder=lambda d: Upper())
            return PluginReport(name, "loaded", stages=(type,))

        registry.add_source(name, load)

    source("aaa", "other")
    source("wanted", "wanted")
    assert [report.state for report in registry.plugins()] == ["waiting", "waiting"]
    assert registry.resolve("wanted").type == "wanted"
    assert loaded == ["wanted"]
    assert registry.stage_types() == ["other", "wanted"]
    assert [report.state for report in registry.plugins()] == ["loaded", "loaded"]


def test_the_ledger_dependency_shows(registry):
    registry.register_stage(
        metadata=a_stage("x", dependencies=["@ledger"]), builder=lambda d: Upper()
    )
    assert registry.wants_ledger("x")


# -- factory


def test_the_factory_builds_from_a_definition(registry):
    factory = StageFactory(registry)
    seen = []
    factory.register_stage(metadata=a_stage(), builder=lambda d: seen.append(d) or Upper())
    definition = StageDefinition(name="n", type="x", config={"a": 1})
    assert isinstance(factory.build(definition), Upper)
    assert seen == [definition]
    assert definition.stage_type == "x"


def broken_builder(definition):
    raise ValueError("no GPU")


@pytest.mark.parametrize(
    ("builder", "words"),
    [
        (broken_builder, "ValueError: no GPU"),
        (lambda d: 3, "int, which has no execute"),
        (lambda d: None, "NoneType"),
    ],
)
def test_a_builder_that_fails_says_which_stage(registry, builder, words):
    registry.register_stage(metadata=a_stage(), builder=builder)
    with pytest.raises(StageSetupError, match=words) as caught:
        StageFactory(registry).build(StageDefinition(name="n", type="x"))
    assert caught.value.code == "S012"


def test_the_engines_own_types_are_known_but_not_built(registry):
    for registration in registrations():
        registry.register(registration)
    assert registry.stage_types() == ["echo", "gate", "raise", "sleep", "uses"]
    with pytest.raises(StageSetupError, match="run by the engine"):
        StageFactory(registry).build(StageDefinition(name="n", type="gate"))


def test_a_registration_without_a_function_cannot_be_called():
    with pytest.raises(StageRegistryError):
        StageRegistration(metadata=a_stage())("x")
