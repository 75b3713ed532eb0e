"""Shipped files are found in a checkout and in a wheel alike."""

import pytest

from streams import resources
from streams.errors import NotFoundError


def test_every_listed_file_can_be_read():
    """What `names` promises, `read` gives."""
    for kind in ("schemas", "topologies"):
        for name in resources.names(kind):
            assert resources.read(kind, name)


def test_an_unknown_name_is_answered_with_those_there_are():
    """The way out of the folder is not a name either."""
    for name in ("nowhere.yaml", "../pyproject.toml"):
        with pytest.raises(NotFoundError) as caught:
            resources.read("topologies", name)

        assert caught.value.code == "R404"
        assert caught.value.help.startswith("there are: ")
