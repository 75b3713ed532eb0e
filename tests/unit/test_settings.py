"""Settings: flag > environment > file > default, each with its origin (CF-1)."""

import pytest

from streams.settings import KEYS, Settings, SettingsError


@pytest.fixture
def project(tmp_path):
    """An empty folder, resolved as settings show it."""
    return tmp_path.resolve()


def write(project, text):
    (project / "streams.yaml").write_text(text, encoding="utf-8")


def faults(project, **overrides):
    with pytest.raises(SettingsError) as caught:
        Settings.load(overrides, cwd=project)
    return [(f.code, f.place, f.message, f.help) for f in caught.value.faults]


def test_without_any_source_the_defaults_hold(project):
    """The first command on a fresh machine needs no file."""
    settings = Settings.load(cwd=project)

    assert settings.namespace == "default"
    assert settings.partitions == 4
    assert settings.worker.drain_seconds == 30
    assert settings.state_dir == project / ".streams"
    assert settings.log == project / ".streams" / "log.db"
    assert settings.blobs == (project / ".streams" / "blobs").as_uri()
    assert not settings.state_dir.exists()


def test_a_flag_beats_the_environment_which_beats_the_file(project, monkeypatch):
    """CF-1, one key given in all four places and then in fewer."""
    write(project, "namespace: file\npartitions: 6\nworker: {concurrency: 5}\n")
    monkeypatch.setenv("STREAMS_NAMESPACE", "env")
    monkeypatch.setenv("STREAMS_WORKER__CONCURRENCY", "7")

    settings = Settings.load({"namespace": "flag", "worker.concurrency": None}, cwd=project)

    assert settings.namespace == "flag"
    assert settings.worker.concurrency == 7
    assert settings.partitions == 6


def test_each_value_tells_where_it_comes_from(project, monkeypatch):
    """`config show --origin` answers "why does it do that" with a line number."""
    write(project, "partitions: 6\nworker:\n  drain_seconds: 2m\n")
    monkeypatch.setenv("STREAMS_LOG_LEVEL", "debug")

    origins = Settings.load({"namespace": "acme"}, cwd=project).origins()

    assert origins["namespace"] == ("acme", "flag")
    assert origins["log_level"] == ("debug", "env STREAMS_LOG_LEVEL")
    assert origins["partitions"] == ("6", "streams.yaml:1:1")
    assert origins["worker.drain_seconds"] == ("120.0", "streams.yaml:3:3")
    assert origins["worker.concurrency"] == ("64", "default")
    assert set(origins) == set(KEYS)


def test_passwords_in_urls_are_masked_in_origins(project):
    """What is printed is pasted into tickets."""
    settings = Settings.load({"blobs": "s3://key:hunter2@store/bucket"}, cwd=project)

    assert settings.blobs == "s3://key:hunter2@store/bucket"
    assert settings.origins()["blobs"] == ("s3://***@store/bucket", "flag")


def test_the_nearest_folder_with_a_file_or_a_state_dir_is_the_project(project):
    """A command works the same in a subfolder; an outer project does not capture an inner one."""
    (project / ".streams").mkdir()
    inner = project / "inner"
    deep = inner / "a" / "b"
    deep.mkdir(parents=True)
    assert Settings.load(cwd=deep).state_dir == project / ".streams"

    write(inner, "namespace: inner\n")

    assert Settings.load(cwd=deep).state_dir == inner / ".streams"
    assert Settings.load(cwd=deep).namespace == "inner"


def test_relative_paths_count_from_whoever_wrote_them(project, monkeypatch):
    """In the file from its folder, in a flag from the working directory."""
    write(project, "log: data/log.db\n")
    sub = project / "sub"
    sub.mkdir()
    monkeypatch.setenv("STREAMS_SECRETS_DIR", "s")

    settings = Settings.load({"state_dir": "mine"}, cwd=sub)

    assert settings.log == project / "data" / "log.db"
    assert settings.state_dir == sub / "mine"
    assert settings.secrets_dir == sub / "s"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("15m", 900),
        ("3h", 10_800),
        ("2w", 1_209_600),
        ("1h30m", 5400),
        ("90", 90),
    ],
)
def test_durations_are_seconds_or_a_number_with_a_unit(project, text, seconds):
    """One way to write a duration in every setting."""
    write(project, f"worker: {{drain_seconds: {text}}}\n")

    settings = Settings.load(cwd=project)

    assert settings.worker.drain_seconds == seconds


def test_all_faults_are_told_at_once_with_place_and_hint(project, monkeypatch):
    """The second mistake is not hidden behind the first."""
    write(project, "namespce: x\nworker:\n  concurency: 3\n  drain_seconds: soon\npartitions: 0\n")
    monkeypatch.setenv("STREAMS_WORKER__DRAIN_SECOND", "1")

    assert faults(project, nonsense=1) == [
        ("C011", "streams.yaml:1:1", "unknown setting `namespce`", "did you mean `namespace`?"),
        (
            "C011",
            "streams.yaml:3:3",
            "unknown setting `worker.concurency`",
            "did you mean `worker.concurrency`?",
        ),
        (
            "C013",
            "env STREAMS_WORKER__DRAIN_SECOND",
            "unknown setting `worker.drain_second`",
            "did you mean `worker.drain_seconds`?",
        ),
        ("C011", "flag", "unknown setting `nonsense`", "see `streams config show --origin`"),
        (
            "C012",
            "streams.yaml:4:3",
            "`worker.drain_seconds`: a duration such as `500ms`, `30s` or `7d`, not 'soon'",
            "",
        ),
        ("C012", "streams.yaml:5:1", "`partitions`: Expected `int` >= 1", ""),
    ]


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (
            "a: [1\n",
            "streams.yaml:2:1",
            "cannot be read: expected ',' or ']', but got '<stream end>'",
        ),
        ("- 1\n", "streams.yaml:1:1", "must be a mapping of settings"),
        ("worker: 3\n", "streams.yaml:1:1", "`worker` must be a mapping"),
        ("namespace: a\nnamespace: b\n", "streams.yaml:2:1", "cannot be read: found duplicate key"),
    ],
)
def test_a_broken_file_is_an_error_with_its_place(project, text, place, message):
    """Never half a file, never the last duplicate in silence."""
    write(project, text)

    [(_, where, said, _)] = faults(project)

    assert where == place
    assert said.startswith(message)


def test_an_empty_file_is_a_project_with_defaults(project):
    """`touch streams.yaml` marks the folder."""
    write(project, "# nothing yet\n")

    assert Settings.load(cwd=project).namespace == "default"


def test_variables_that_an_orchestrator_injects_are_left_alone(project, monkeypatch):
    """A service named `streams` makes STREAMS_PORT=tcp://… appear in every pod."""
    monkeypatch.setenv("STREAMS_PORT", "tcp://10.0.0.1:80")
    monkeypatch.setenv("STREAMS_SERVICE_HOST", "10.0.0.1")

    assert Settings.load(cwd=project).sources == {}


def test_types_of_the_file_are_strict_and_those_of_the_environment_are_text(project, monkeypatch):
    """`partitions: "6"` in a file is a mistake; a variable can be nothing but text."""
    monkeypatch.setenv("STREAMS_PARTITIONS", "6")
    assert Settings.load(cwd=project).partitions == 6
    monkeypatch.delenv("STREAMS_PARTITIONS")

    write(project, 'partitions: "6"\n')

    assert faults(project) == [
        ("C012", "streams.yaml:1:1", "`partitions`: Expected `int`, got `str`", "")
    ]
