"""Whether this worker's blob store is the one that the pipeline's other workers use.

Data over 48 KiB stand in the blob store, and events carry references to them. A folder (`file:`)
on another host is another store, whatever its name: references would lead nowhere. The first worker
leaves a mark in its folder and says so in the control topic; a worker without the mark is refused.
On a bucket, or with brokers on this very machine, there is nothing to prove.
"""

from __future__ import annotations

import hashlib

from streams.blobs import BlobStore
from streams.broker.cluster import cluster_of, on_this_machine
from streams.broker.port import Log, Outgoing
from streams.clock import Clock
from streams.errors import LogError
from streams.runtime.comparing import Finding
from streams.runtime.outlook import read_control
from streams.topology.plan import Naming

EXPLANATIONS: dict[str, str] = {
    "K088": """\
**The blob store is not shared.** Data over 48 KiB stand there, and every worker of a pipeline must
find them. A folder (`file:`) does for workers of one host, or where all hosts mount the same one;
this worker's folder is not the one that the first worker used.
Next: set `blobs` to a bucket (`s3://…`) or to a folder that all hosts share. If the old folder is
gone for good, `streams apply FILE` lets the next worker's count.""",
}


def marks_place(naming: Naming) -> str:
    """Where in the store the mark lies; no job can have such an id."""
    return f"{naming.namespace}/{naming.pipeline}/~store"


def about_store(log: Log, blobs: BlobStore) -> list[Finding]:
    """Said before anybody starts: a folder is right for one host only, or where it is mounted."""
    cluster = cluster_of(log)
    if cluster is None or blobs.shared or on_this_machine(cluster.bootstrap):
        return []
    message = (
        f"the blob store {blobs.url} is a folder: all workers must run on one host or mount it"
    )
    return [Finding("K088", "warning", blobs.url, message, "set `blobs` to a bucket")]


async def require_same_store(log: Log, naming: Naming, blobs: BlobStore, clock: Clock) -> None:
    """The store is shared, or is the folder that all of the pipeline's workers use. Raises
    `LogError` K088 if it is not."""
    cluster = cluster_of(log)
    if cluster is None or blobs.shared or on_this_machine(cluster.bootstrap):
        return
    place = marks_place(naming)
    claimed = (await read_control(log, naming)).store
    if not claimed:
        claimed = clock.new_id()
        await blobs.put(place, claimed.encode())
        await log.publish([Outgoing(naming.control, b"store", claimed.encode(), (), 0)])
        return
    mark = hashlib.sha256(claimed.encode()).hexdigest()
    if not any(address.endswith(mark) for address in await blobs.list_prefix(place)):
        raise LogError(
            f"the blob store {blobs.url} is not the folder that the other workers of"
            f" {naming.pipeline} use",
            code="K088",
            help="set `blobs` to a bucket or to a folder that all hosts share",
        )
