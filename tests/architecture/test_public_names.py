"""What people import is pinned: a name or signature changes on purpose or not at all."""

from pathlib import Path

from tests.architecture.public_names import describe

SNAPSHOT = Path(__file__).parent / "public_names.txt"


def test_public_names_and_signatures_are_the_committed_ones():
    """Regenerate with the command in public_names.py, and say why in a changelog fragment."""
    assert describe().splitlines() == SNAPSHOT.read_text(encoding="utf-8").splitlines()
