"""How much of an event one output may take, so that the whole fits into a record."""

import pytest

from tests.unit.topology.checking import plan_of


@pytest.mark.parametrize(
    ("ways", "room"), [(1, 655_360), (2, 327_680), (30, 21_845)], ids=["line", "two", "thirty"]
)
def test_outputs_get_less_room_where_an_event_carries_many(ways, room):
    """At a join all of them are in one event, which must fit into a record (row 21)."""
    needs = [f"s{n}" for n in range(ways)]
    stages = "".join(
        f"  - {{id: {name}, echo: '${{{{ data }}}}', depends_on: [r]}}\n" for name in needs
    )
    text = (
        f"stages:\n  - {{id: r, echo: hi}}\n{stages}  - {{id: z, echo: hi, depends_on: {needs}}}\n"
    )
    plan = plan_of(text)

    assert plan.room == room
