"""Makes the world refuse to answer when `streams.engine` asks: clock, files, sockets, chance.

Each entry is replaced by one that looks at who calls. The engine's frames are refused; everybody
else, the test runner included, gets the real thing.
"""

import asyncio
import builtins
import contextlib
import os
import random
import socket
import sys
import time
import uuid
from collections.abc import Iterator

GUARDED: list[tuple[object, str]] = [
    (builtins, "open"),
    (builtins, "print"),
    (os, "getenv"),
    (os, "open"),
    (os, "urandom"),
    (socket, "create_connection"),
    (socket, "socket"),
    (time, "time"),
    (time, "time_ns"),
    (time, "monotonic"),
    (time, "perf_counter"),
    (time, "sleep"),
    (asyncio, "sleep"),
    (random, "random"),
    (random, "choice"),
    (uuid, "uuid1"),
    (uuid, "uuid4"),
]


class ImpureCall(AssertionError):
    """The engine asked the outside world."""


@contextlib.contextmanager
def pure_engine(package: str = "streams.engine") -> Iterator[None]:
    """Inside the block, code of `package` that calls a guarded function fails the test."""
    real = [(owner, name, getattr(owner, name)) for owner, name in GUARDED]
    for owner, name, function in real:
        setattr(owner, name, _guard(package, f"{owner.__name__}.{name}", function))
    try:
        yield
    finally:
        for owner, name, function in real:
            setattr(owner, name, function)


def _guard(package, label, function):
    if isinstance(function, type):  # a class must stay one: others subclass and isinstance it

        class Guarded(function):
            def __new__(cls, *args, **kwargs):
                _refuse(package, label)
                return super().__new__(cls, *args, **kwargs)

        Guarded.__name__ = function.__name__
        return Guarded

    def guarded(*args, **kwargs):
        _refuse(package, label)
        return function(*args, **kwargs)

    return guarded


def _refuse(package, label):
    caller = sys._getframe(2).f_globals.get("__name__", "")
    if caller == package or caller.startswith(package + "."):
        raise ImpureCall(f"{caller} called {label}: the engine is given what it needs")
