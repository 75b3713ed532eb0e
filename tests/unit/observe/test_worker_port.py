"""`streams worker --port`: a real process, asked over a real socket."""

import asyncio
import json
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streams.app import App
from streams.cli.working import Duty
from streams.clock import SystemClock
from streams.observe.server import PortError
from streams.settings import Settings, SettingsError
from tests.unit.cli.processes import Process, run

PIPELINE = """
pipeline: hello
stages:
  - {name: greet, echo: "hello"}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / ".streams").mkdir()
    (tmp_path / "hello.yaml").write_text(PIPELINE, encoding="utf-8")
    return tmp_path


def get(url):
    """(status, body), also of an answer that is no success."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_worker_serves_metrics_and_health_until_it_leaves(folder):
    """What an orchestrator and a scraper see, from the start to an end in order."""
    with Process(folder, "worker", "hello.yaml", "--port", "0") as worker:
        url = json.loads(worker.until("port.opened"))["url"]
        worker.until("worker.ready")

        assert url.startswith("http://127.0.0.1:")
        assert get(f"{url}/readyz") == (200, '{"status":"ok","reasons":[]}\n')
        assert get(f"{url}/livez")[0] == 200
        assert get(f"{url}/nothing")[0] == 404
        status, text = get(f"{url}/metrics")
        names = {family.name for family in text_string_to_metric_families(text)}
        assert status == 200
        assert {"streams_ledger_rows", "process_resident_memory_bytes"} <= names
        assert worker.stop(signal.SIGTERM) == 0


def test_a_worker_whose_port_is_taken_does_not_start(folder):
    """It says so, with a code, and touches nothing."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run(folder, "worker", "hello.yaml", "--port", str(port))

    assert done.returncode == 2
    assert "error[C020]" in done.stderr
    assert f"127.0.0.1:{port}" in done.stderr
    assert not (folder / ".streams" / "log.db").exists()


def test_several_processes_end_together_when_one_cannot_have_its_port(folder):
    """Started again and again it would be refused again and again."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        words = ("worker", "hello.yaml", "--processes", "2", "--port", str(port - 1))
        done = run(folder, *words)

    assert done.returncode == 2
    assert f"127.0.0.1:{port}" in done.stderr
    assert "started again" not in done.stderr


async def test_an_app_opens_its_port_before_anything_else_and_closes_it(folder, monkeypatch):
    """People start workers from their own main, too; without the setting there is no port."""
    monkeypatch.chdir(folder)
    settings = Settings.load({"worker.port": 0})
    app = App.from_files("hello.yaml", settings=settings)
    stop = asyncio.Event()
    running = asyncio.create_task(app.run(stop))
    await app.ready.wait()
    url = app.port
    assert (await asyncio.to_thread(get, f"{url}/health/live"))[0] == 200
    stop.set()
    await running

    assert app.port == ""
    with pytest.raises(urllib.error.URLError):
        await asyncio.to_thread(get, f"{url}/health/live")
    quiet = App.from_files("hello.yaml", settings=Settings.load())
    async with quiet._serving():
        assert quiet.port == ""


async def test_an_app_that_cannot_have_its_port_begins_nothing(folder, monkeypatch):
    """No topic, no log, no member of a group."""
    monkeypatch.chdir(folder)
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = Settings.load({"worker.port": other.getsockname()[1]})
        app = App.from_files("hello.yaml", settings=settings, clock=SystemClock())
        with pytest.raises(PortError):
            await app.run(asyncio.Event())

    assert not settings.log.exists()


def test_of_several_processes_each_has_a_port_of_its_own(folder, monkeypatch):
    """PR-5: figures are of one process; 0 stays 0, none stays none."""
    monkeypatch.chdir(folder)

    def ports(**given):
        duty = Duty(files=(Path("hello.yaml"),), **given)
        each = [duty.of_process(number, duty.settings()) for number in range(3)]
        return [one.port for one in each], each[2].arguments()

    assert ports(port=9000, host="0.0.0.0") == (
        [9000, 9001, 9002],
        ["hello.yaml", "--port", "9002", "--host", "0.0.0.0", "--keeper", "yes"],
    )
    assert ports(port=0)[0] == [0, 0, 0]
    assert ports()[0] == [None, None, None]
    (folder / "streams.yaml").write_text("worker: {port: 9100}\n", encoding="utf-8")
    assert ports()[0] == [9100, 9101, 9102]


@pytest.mark.parametrize("port", [-1, 65_536, "http", True])
def test_a_port_that_is_none_is_refused(folder, monkeypatch, port):
    monkeypatch.chdir(folder)
    with pytest.raises(SettingsError) as caught:
        Settings.load({"worker.port": port})

    assert caught.value.code == "C012"
