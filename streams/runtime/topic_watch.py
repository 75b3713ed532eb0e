"""Whether a running pipeline's topics are still what they were when it began.

The client library would notice a deleted topic late, or say so without its name, and would never
say that a topic nobody reads is gone. So a worker on a cluster looks by itself.
"""

from __future__ import annotations

from streams.broker.cluster import Cluster, TopicFound
from streams.clock import Clock
from streams.errors import LogUnavailable, TopicError
from streams.observe.logs import get_logger
from streams.runtime.comparing import Terms, judge
from streams.runtime.control import ControlTable
from streams.runtime.topics import topics
from streams.topology.plan import Naming

EXPLANATIONS: dict[str, str] = {
    "K087": """\
**A topic was deleted while the pipeline ran,** or deleted and made anew. The worker stops, and
nothing makes the topic by itself: what was in it is gone, and an empty one would hide that.
Next: if it was not meant so, restore it from a backup of the cluster; else `streams apply FILE`
makes it anew, empty, and jobs whose work was in it have to be submitted or retried.""",
}

EVERY = 5.0
AGAIN_AFTER = 2.0
"""Seconds to a second look: a broker that has just come back may not know every topic yet."""

log = get_logger(__name__)


class TopicWatch:
    """Looks at the topics of one pipeline from time to time."""

    def __init__(
        self, cluster: Cluster, naming: Naming, table: ControlTable, clock: Clock, partitions: int
    ) -> None:
        self._cluster = cluster
        self._naming = naming
        self._table = table
        self._clock = clock
        self._partitions = partitions
        self._ids: dict[str, str] = {}
        self._told: set[tuple[str, int]] = set()

    async def run(self) -> None:
        """Looks until a topic is gone, which raises `TopicError` with its name."""
        while True:
            try:
                if gone := await self._look():
                    await self._clock.sleep(AGAIN_AFTER)
                    if gone := sorted(set(gone) & set(await self._look())):
                        raise self._failure(gone)
            except LogUnavailable as error:
                log.info("topics.not_seen", code=error.code, error=error.message)
            await self._clock.sleep(EVERY)

    async def _look(self) -> list[str]:
        """Topics that are not those they were."""
        wanted = topics(self._naming, self._table.plans.values(), self._partitions)
        names = [spec.name for spec in wanted]
        found = await self._cluster.found(names, settings=False)
        for finding in judge(wanted, (), found, None, Terms(laid_out=True)):
            topic = found[finding.subject]
            mark = (finding.subject, topic.partitions if topic is not None else 0)
            if finding.code == "K086" and mark not in self._told:
                self._told.add(mark)
                log.warning(
                    "topics.partitions_added",
                    topic=finding.subject,
                    code=finding.code,
                    error=finding.message,
                )
        return [name for name in names if self._is_gone(name, found)]

    def _is_gone(self, name: str, found: dict[str, TopicFound | None]) -> bool:
        topic = found.get(name)
        if topic is None:
            return name not in found
        return bool(topic.id) and self._ids.setdefault(name, topic.id) != topic.id

    def _failure(self, gone: list[str]) -> TopicError:
        what = "topic" if len(gone) == 1 else "topics"
        return TopicError(
            f"{what} {', '.join(gone)} deleted while pipeline {self._naming.pipeline} runs",
            code="K087",
            help=f"streams apply FILE --kafka {self._cluster.bootstrap} makes it anew, empty",
        )
