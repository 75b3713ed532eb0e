"""The features that a new cluster has: those of its version, as on any cluster made today.

Without them Kafka takes itself for its oldest version: no assignment by the broker (KIP-848), no
checked transactions (KIP-890). `kafka-storage format` writes them into a file that is the same for
every cluster of a version; a JVM of its own for that would cost each first start a second.
"""

from __future__ import annotations

import base64

FILE = "bootstrap.checkpoint"

_WRITTEN_BY_4_1_1 = """
AAAAAAAAAAAAAABHAAAAAALzuiA4ACAAAAAAAAABof/DX2wAAAGh/8NfbP//////////////////AAAAASoAAAAIAAAA
AxYAAAAAAAAAAAAAAAAAAAAAAAAAAQAAALkAAAAAAuzZseEAAAAAAAMAAAGh/8NfgwAAAaH/w1+D////////////////
//8AAAAEOgAAAAEuAQwAEW1ldGFkYXRhLnZlcnNpb24AGwAAWgAAAgFOAQwAIWVsaWdpYmxlLmxlYWRlci5yZXBsaWNh
cy52ZXJzaW9uAAEAADQAAAQBKAEMAA5ncm91cC52ZXJzaW9uAAEAAEAAAAYBNAEMABR0cmFuc2FjdGlvbi52ZXJzaW9u
AAIAAAAAAAAAAAAFAAAAPwAAAAACTkit1AAgAAAAAAAAAaH/w1+DAAABof/DX4P//////////////////wAAAAEaAAAA
CAAAAAQGAAAAAA==
"""


def checkpoint() -> bytes:
    """The file: metadata.version 4.1, group.version 1, transaction.version 2."""
    return base64.b64decode(_WRITTEN_BY_4_1_1)
