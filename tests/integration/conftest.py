"""A real Kafka for the suite: the one that STREAMS_TEST_KAFKA names, else one of our own.

Each test makes topics and groups of its own names: the broker is shared by the whole session.
"""

import os
from contextlib import contextmanager

import pytest

from streams.broker.devbroker.broker import running_broker
from streams.broker.devbroker.launching import Tools
from streams.errors import StreamsError
from tests.integration.secured_broker import secured_broker

# Read here: inside a test these variables are hidden (tests/conftest.py).
GIVEN = os.environ.get("STREAMS_TEST_KAFKA", "")
MUST_RUN = bool(os.environ.get("CI"))


@pytest.fixture(scope="session")
def kafka(request, tmp_path_factory):
    """`HOST:PORT` of a broker that serves."""
    if GIVEN:
        yield GIVEN
        return
    request.getfixturevalue("can_run_kafka")
    with running_broker(tmp_path_factory.mktemp("kafka")) as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def secured(can_run_kafka, tmp_path_factory):
    """A broker of our own with TLS, logins and ACLs, that makes topics by itself as Kafka does."""
    with secured_broker(tmp_path_factory.mktemp("secured")) as broker:
        yield broker


@pytest.fixture(scope="session")
def can_run_kafka():
    """This machine has what a broker needs; it is fetched if it was not there."""
    with _needed_for_the_suite():
        Tools.ready(print)


@contextmanager
def _needed_for_the_suite():
    """What is missing skips the tests with the reason; where CI is set it fails them.

    A suite that was to prove something must not be green because it did not run.
    """
    try:
        yield
    except StreamsError as error:
        reason = f"no Kafka to test with: error[{error.code}] {error.message}"
        if MUST_RUN:
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
