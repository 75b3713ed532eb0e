"""A worker that only keeps, where others run every stage."""

import pytest

from streams.app import App
from streams.cli.working import Duty, _check_names
from streams.errors import NotFoundError

PIPELINE = "pipeline: p\nstages:\n  - {name: one, type: sleepy, pool: faust}\n"


@pytest.fixture
def app(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(PIPELINE)
    return App.from_files("p.yaml", pools=["default"])


def test_the_default_pool_may_be_empty_for_a_worker_with_a_keeper(app):
    """A Faust app runs the stages; somebody has to take submissions up and open gates."""
    _check_names(app, Duty((), pools=("default",)))


def test_without_a_keeper_it_would_do_nothing(app):
    """Said at the start, not found out later."""
    with pytest.raises(NotFoundError):
        _check_names(app, Duty((), pools=("default",), keeper=False))
    with pytest.raises(NotFoundError):
        _check_names(app, Duty((), pools=("gpu",)))
