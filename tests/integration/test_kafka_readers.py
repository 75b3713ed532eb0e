"""Readers by aiokafka keep a reader's promises on a real broker; a whole view is read through them."""

import pytest

from streams.broker.aio_reader import AioReader
from streams.broker.kafka import KafkaLog
from streams.broker.port import Outgoing, TopicPartition, TopicSpec, Transaction
from streams.clock import SystemClock
from streams.errors import UserError
from streams.testing.conformance.broker import BrokerFeatures
from streams.testing.conformance.broker_records import RecordPromises


class TestReadersByAiokafka(RecordPromises):
    """The same suite: whoever reads, the log is the same."""

    features = BrokerFeatures(patience=60)

    @pytest.fixture
    def open_log(self, kafka):
        async def opened():
            options = {"streams.readers": "aiokafka"}
            return KafkaLog.open(kafka, clock=SystemClock(), options=options)

        return opened

    async def test_it_is_aiokafka_that_reads(self, log):
        """Else this class would prove nothing."""
        assert isinstance(log.reader(), AioReader)

    async def test_what_was_never_committed_is_never_seen(self, log, clock, topic):
        """A view shows committed state only (G19); a refused transaction leaves markers, no rows."""
        await log.create_topics([TopicSpec(topic, 1, "compact")])
        producer = await log.producer(topic)
        half = Transaction([Outgoing(topic, b"k", b"half"), Outgoing(f"{topic}.none", b"k", b"")])
        with pytest.raises(Exception, match="topic"):
            await producer.commit(half)
        await producer.close()
        await log.publish([Outgoing(topic, b"k", b"whole")])
        records = await self.read(log, clock, 1, TopicPartition(topic, 0))
        assert [record.value for record in records] == [b"whole"]


async def test_an_option_that_aiokafka_does_not_know_is_refused_before_it_connects():
    """Left out silently, it would make the connection less safe than was asked for."""
    options = {"streams.readers": "aiokafka", "ssl.crl.location": "revoked.pem"}
    log = KafkaLog.open("127.0.0.1:1", clock=SystemClock(), options=options)
    reader = log.reader()
    reader.assign({TopicPartition("t", 0): 0})
    with pytest.raises(UserError, match=r"ssl\.crl\.location") as refused:
        await reader.poll(1, 0.1)
    assert refused.value.code == "K071"
    await log.close()
