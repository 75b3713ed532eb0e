"""Which event loop a test of the log's promises runs on."""

import asyncio


def pytest_asyncio_loop_factories(item):
    """A module may name one (`LOOP`), as a log in virtual time must."""
    factory = getattr(item.module, "LOOP", asyncio.new_event_loop)
    return {factory.__name__: factory}
