"""The tests are tested: ten ways to break the product, each found within 500 seeds."""

import pytest

from tests.simulation.judge import faults
from tests.simulation.product_mutants import MUTANTS
from tests.simulation.scenario import generate

MOST = 500


def test_there_are_ten():
    """reliability.md §3a asks for ten."""
    assert len(MUTANTS) == 10


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_simulation_finds_it(mutant, monkeypatch):
    """What would slip through here would slip through in the product."""
    mutant(monkeypatch)
    assert any(faults(generate(seed)) for seed in range(MOST)), mutant.__doc__
