"""A cluster that is said to be somewhere: an embedded log, with what a cluster can be asked."""

from streams.broker.cluster import ClusterFound, TopicFound
from streams.broker.local import LocalLog


class SaidCluster:
    """Topics as the test says they are."""

    replication = -1

    def __init__(self, topics=(), bootstrap="kafka.example:9092"):
        self.bootstrap = bootstrap
        self.topics = {topic.name: topic for topic in topics}

    async def reach(self, seconds):
        pass

    async def facts(self):
        return ClusterFound("c", 1)

    async def found(self, names, *, settings=True):
        return {name: self.topics[name] for name in names if name in self.topics}

    async def group_operations(self, groups):
        return {}

    async def require_transactions(self, transactional_id):
        pass


class ClusterOfLog(SaidCluster):
    """Topics as an embedded log has them."""

    def __init__(self, log, bootstrap="kafka.example:9092"):
        super().__init__((), bootstrap)
        self._log = log

    async def found(self, names, *, settings=True):
        known = await self._log.topics()
        return {
            name: TopicFound(name, known[name].partitions, 1, "", known[name].settings)
            for name in names
            if name in known
        }


def clustered(clock, bootstrap="kafka.example:9092"):
    """A log in memory that says it is a cluster."""
    log = LocalLog.open(None, clock=clock)
    log.cluster = ClusterOfLog(log, bootstrap)
    return log
