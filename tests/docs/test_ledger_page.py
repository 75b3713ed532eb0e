"""The page about rows says what the table of transitions says now."""

import re

from streams.engine.transitions import TRANSITIONS
from tests.docs.ledger_page import KINDS, page
from tests.docs.pages import ROOT


def test_the_ledger_page_is_drawn_from_the_table_as_it_is():
    """After a change of the table: `python -m tests.docs.ledger_page > docs/ledger.md`."""
    assert (ROOT / "docs/ledger.md").read_text(encoding="utf-8") == page()


def test_every_kind_of_row_has_its_diagram():
    """A new kind of row cannot stay undrawn."""
    assert list(KINDS) == list(dict.fromkeys(line.row for line in TRANSITIONS))


def test_the_diagrams_show_every_change_of_the_table():
    """One arrow for each state that a line leads out of."""
    arrows = re.findall(r"^    (\S+) --> (\S+): .+$", page(), re.MULTILINE)

    assert len(arrows) == sum(len(line.before) + line.lower for line in TRANSITIONS)
    assert ("WAITING", "CANCELLED") in arrows
    assert ("[*]", "RUNNING") in arrows
    assert ("SUCCESS", "RUNNING") not in arrows
