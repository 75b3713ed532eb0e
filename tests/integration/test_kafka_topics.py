"""`streams plan` and `streams apply` on a real broker: topics made, compared, never altered."""

import time
import uuid

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from streams.broker.cluster import cluster_of
from streams.broker.devbroker.broker import running_broker
from streams.broker.kafka import KafkaLog
from streams.broker.port import TopicSpec
from streams.clock import SystemClock
from tests.integration.command import Folder

LIMIT = 30.0


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path, f"t-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def admin(kafka):
    return AdminClient({"bootstrap.servers": kafka})


def settings_of(admin, topic):
    resource = ConfigResource(ResourceType.TOPIC, topic)
    entries = admin.describe_configs([resource])[resource].result(LIMIT)
    return {key: entry.value for key, entry in entries.items()}


def make(admin, *names, partitions):
    new = [NewTopic(name, partitions, 1) for name in names]
    for future in admin.create_topics(new).values():
        future.result(LIMIT)


def exists(admin, topic):
    return topic in admin.list_topics(timeout=LIMIT).topics


def delete(admin, topic):
    admin.delete_topics([topic])[topic].result(LIMIT)
    until(lambda: not exists(admin, topic))


def until(holds):
    limit = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.05)


def codes(done):
    return {finding["code"] for finding in done.json["findings"]} - {"K085"}


def test_apply_makes_every_topic_as_the_conventions_say(kafka, admin, folder):
    """KT-2, KT-3: no expiry of what waits, append times, compaction that comes in time."""
    before = folder.run("plan", folder.file, "--kafka", kafka, "--detailed-exitcode", "-o", "json")
    done = folder.run("apply", folder.file, "--kafka", kafka)
    after = folder.run("plan", folder.file, "--kafka", kafka, "--detailed-exitcode", "-o", "json")

    assert (before.code, done.code, after.code) == (2, 0, 0), done.err
    assert [change["kind"] for change in before.json["changes"]] == [
        *["create-topic"] * 8,
        "set-layout",
        "add-plan",
        "activate-plan",
    ]
    assert done.err.startswith(f"apply to the Kafka cluster {kafka}\n")
    assert after.json["changes"] == []
    assert codes(after) == set()
    assert after.json["partitions"] == 7 * 4 + 1
    ledger = settings_of(admin, f"{folder.prefix}.ledger")
    assert ledger["cleanup.policy"] == "compact"
    assert ledger["min.cleanable.dirty.ratio"] == "0.1"
    assert ledger["segment.ms"] == "3600000"
    assert ledger["segment.bytes"] == "67108864"
    assert ledger["max.compaction.lag.ms"] == "86400000"
    assert ledger["delete.retention.ms"] == "604800000"
    hold = settings_of(admin, f"{folder.prefix}.hold")
    assert (hold["cleanup.policy"], hold["retention.ms"]) == ("delete", "-1")
    assert hold["message.timestamp.type"] == "LogAppendTime"
    assert settings_of(admin, f"{folder.prefix}.one")["retention.ms"] == "-1"
    assert settings_of(admin, f"{folder.prefix}.intake")["retention.ms"] == "2592000000"
    assert settings_of(admin, f"{folder.prefix}.dead")["retention.ms"] == "2592000000"


def test_drift_is_told_and_never_altered(kafka, admin, folder):
    """KT-3: it may be somebody's decision."""
    folder.run("apply", folder.file, "--kafka", kafka)
    hold = f"{folder.prefix}.hold"
    entry = ConfigEntry("retention.ms", "60000", incremental_operation=AlterConfigOpType.SET)
    changed = ConfigResource(ResourceType.TOPIC, hold, incremental_configs=[entry])
    admin.incremental_alter_configs([changed])[changed].result(LIMIT)

    done = folder.run("apply", folder.file, "--kafka", kafka)

    assert done.code == 0
    assert (
        f"warning[K083]: topic {hold} has retention.ms 60000, not -1:"
        " what waits for longer than that is lost\n"
        f"   = next: kafka-configs.sh --bootstrap-server {kafka} --alter --entity-type topics"
        f" --entity-name {hold} --add-config retention.ms=-1\n"
    ) in done.err
    assert settings_of(admin, hold)["retention.ms"] == "60000"


def test_topics_made_by_others_are_accepted(kafka, admin, folder):
    """Where topics come from a platform team: as many partitions as the pipeline has is enough."""
    names = ("intake", "hold", "ledger", "done", "dead", "one", "two")
    make(admin, *(f"{folder.prefix}.{name}" for name in names), partitions=6)
    make(admin, f"{folder.prefix}.control", partitions=1)

    refused = folder.run("apply", folder.file, "--kafka", kafka)
    done = folder.run("apply", folder.file, "--kafka", kafka, "-o", "json", partitions="6")
    with folder.running("worker", folder.file, "--kafka", kafka):
        job = folder.run("submit", "p", "--watch", "--timeout", "40s", kafka__bootstrap=kafka)

    assert refused.code == 1
    assert f"error[K081]: topic {folder.prefix}.intake has 6 partitions, the pipeline" in (
        refused.err
    )
    assert "set partitions: 6 if all topics of the pipeline are to have so many" in refused.err
    assert done.code == 0
    assert done.json["pipelines"][0]["partitions"] == 6
    assert codes(done) == {"K083"}
    assert job.code == 0, job.err + folder.said


def test_a_topic_that_was_there_once_is_not_made_anew_by_a_worker(kafka, admin, folder):
    """It held work: an empty one in its place would hide that."""
    folder.run("apply", folder.file, "--kafka", kafka)
    hold = f"{folder.prefix}.hold"
    delete(admin, hold)

    worker = folder.run("worker", folder.file, "--kafka", kafka)

    assert worker.code == 1
    assert worker.err.endswith(
        f"error[K080]: topic of pipeline p missing: {hold}\n"
        f"   = next: streams apply FILE --kafka {kafka}\n"
    )
    assert not exists(admin, hold)
    assert folder.run("apply", folder.file, "--kafka", kafka).code == 0
    assert exists(admin, hold)


def test_a_ledger_without_its_control_topic_is_no_new_pipeline(kafka, admin, folder):
    """Another layout would put the rows of a job in two partitions."""
    folder.run("apply", folder.file, "--kafka", kafka)
    with folder.running("worker", folder.file, "--kafka", kafka):
        folder.run("submit", "p", "--watch", "--timeout", "40s", kafka__bootstrap=kafka)
    delete(admin, f"{folder.prefix}.control")

    worker = folder.run("worker", folder.file, "--kafka", kafka)

    assert worker.code == 1
    assert f"error[K080]: the ledger {folder.prefix}.ledger has rows" in worker.err
    assert not exists(admin, f"{folder.prefix}.control")


def test_in_production_a_worker_makes_nothing_and_refuses_what_is_unsafe(kafka, admin, folder):
    """One replica of a topic is one broken disk away from loss."""
    production = {"kafka__production": True}
    new = folder.run("worker", folder.file, "--kafka", kafka, **production)
    folder.run("apply", folder.file, "--kafka", kafka)
    unsafe = folder.run("worker", folder.file, "--kafka", kafka, **production)
    planned = folder.run("plan", folder.file, "--kafka", kafka, "-o", "json", **production)
    dry = folder.run("apply", folder.file, "--kafka", kafka, "--dry-run", **production)

    assert (new.code, unsafe.code, planned.code, dry.code) == (1, 1, 1, 1)
    assert "error[K080]: 8 topics of pipeline p missing:" in new.err
    ledger = f"{folder.prefix}.ledger"
    assert f"error[K082]: topic {folder.prefix}.intake has 1 of 3 replicas\n" in unsafe.err
    assert f"topic {ledger} has min.insync.replicas 1: what was acknowledged may be" in unsafe.err
    assert {each["severity"] for each in planned.json["findings"] if each["code"] == "K082"} == {
        "refused"
    }


def test_in_production_apply_asks_for_three_replicas(kafka, folder):
    """A cluster that cannot have them says so; nothing with fewer is made in silence."""
    done = folder.run("apply", folder.file, "--kafka", kafka, kafka__production=True)

    assert done.code == 1
    assert "error[K014]: making topic" in done.err
    assert "replication factor" in done.err.lower()


async def test_a_setting_that_the_brokers_refuse_is_left_out_and_told(kafka, caplog):
    """A managed cluster's policy: the topic is made without, and the comparison says what it
    costs."""
    log = KafkaLog.open(kafka, clock=SystemClock())
    name = f"t-{uuid.uuid4().hex[:8]}"
    try:
        wanted = {"segment.ms": "-5", "max.message.bytes": "2000000"}
        await log.create_topics([TopicSpec(name, 2, config=wanted)])
        found = (await cluster_of(log).found([name]))[name]
    finally:
        await log.close()

    assert found.partitions == 2
    assert found.settings["max.message.bytes"] == "2000000"
    assert found.settings["message.timestamp.type"] == "LogAppendTime"
    assert [record.getMessage() for record in caplog.records if "refuse" in record.message] != []


@pytest.mark.parametrize("verb", [["list"], ["plan", "p.yaml"], ["worker", "p.yaml"], ["doctor"]])
def test_a_cluster_that_is_not_there_is_told_in_seconds(folder, verb):
    """Whoever mistypes an address must not sit before a silent terminal."""
    began = time.monotonic()
    done = folder.run(*verb, "--kafka", "127.0.0.1:1")

    assert done.code == (1 if verb == ["doctor"] else 4)
    assert "no answer from 127.0.0.1:1" in done.out + done.err
    assert "Connection refused" in done.out + done.err
    assert time.monotonic() - began < 25


def test_a_target_elsewhere_needs_a_word_where_nobody_can_be_asked(folder):
    """A script with the wrong settings would change the wrong cluster."""
    done = folder.run("apply", folder.file, "--kafka", "kafka.example:9092")

    assert done.code == 2
    assert "error[C130]: kafka.example:9092 is not this machine" in done.err


def test_doctor_looks_at_the_cluster_and_the_topics_in_it(kafka, admin, folder):
    """What is right in one line each, what is not with the next step."""
    folder.run("apply", folder.file, "--kafka", kafka)
    dead = f"{folder.prefix}.dead"
    entry = ConfigEntry("retention.ms", "60000", incremental_operation=AlterConfigOpType.SET)
    changed = ConfigResource(ResourceType.TOPIC, dead, incremental_configs=[entry])
    admin.incremental_alter_configs([changed])[changed].result(LIMIT)
    delete(admin, f"{folder.prefix}.two")

    done = folder.run("doctor", "--kafka", kafka, "-o", "json")

    found = {(each["check"], each["state"]): each for each in done.json}
    assert done.code == 1
    assert found["kafka", "ok"]["detail"].startswith("1 broker, cluster ")
    assert found["transactions", "ok"]["detail"] == "transactions can be begun"
    assert found["pipeline p on Kafka", "ok"]["detail"] == "transactions can be begun"
    warning = found["pipeline p on Kafka", "warning"]
    assert warning["detail"].startswith(f"K083: topic {dead} has retention.ms 60000")
    failed = found["pipeline p on Kafka", "failed"]
    assert failed["detail"] == f"K080: topic {folder.prefix}.two is missing"
    assert failed["next"] == f"streams apply FILE --kafka {kafka}"


@pytest.mark.slow
def test_in_production_apply_alone_decides_which_version_is_active(can_run_kafka, tmp_path):
    """A restart with an older file must not roll back. On three nodes, as production is."""
    with running_broker(tmp_path / "kafka", nodes=3) as bootstrap:
        folder = Folder(tmp_path, "prod")
        settings = {"kafka__bootstrap": bootstrap, "kafka__production": True}
        applied = folder.run("apply", folder.file, **settings)
        assert applied.code == 0, applied.err
        old = (folder.path / folder.file).read_text()
        (folder.path / folder.file).write_text("version: 2\n" + old)
        refused = folder.run("worker", folder.file, **settings)
        folder.run("apply", folder.file, **settings)
        (folder.path / folder.file).write_text(old)
        with folder.running("worker", folder.file, **settings):
            job = folder.run("submit", "p", "--watch", "--timeout", "60s", **settings)
        after = folder.run("plan", folder.file, "-o", "json", **settings)

    assert (refused.code, job.code) == (1, 0), job.err + folder.said
    assert "error[K089]: version 2 of pipeline p" in refused.err
    assert {
        (topic["replicas"], topic["settings"]["min.insync.replicas"])
        for topic in after.json["topics"]
    } == {(3, "2")}
    assert [each["severity"] for each in after.json["findings"]] == []
    assert after.json["pipelines"][0]["active"] != after.json["pipelines"][0]["digest"]
