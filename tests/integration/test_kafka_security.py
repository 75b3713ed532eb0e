"""TLS, logins and ACLs on a real broker with Kafka's own authorizer: what works, what is refused,
and that no secret is ever shown."""

import time
import uuid

import pytest

from streams.broker.kafka import KafkaLog
from streams.clock import SystemClock
from tests.integration.command import Folder
from tests.integration.secured_broker import PLAIN_SECRET, PLAIN_USER

SECRET = "s3cret-7f1"


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path, f"s-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def somebody(secured):
    """A user of its own with a secret, and nothing granted."""

    def made(mechanism="SCRAM-SHA-256"):
        name = f"u-{uuid.uuid4().hex[:8]}"
        secured.add_user(name, SECRET, mechanism)
        return name

    return made


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN", "OAUTHBEARER"])
async def test_every_way_to_log_in_works(secured, somebody, mechanism):
    """The options are the client library's own, passed through as one mapping."""
    if mechanism == "OAUTHBEARER":
        options = secured.bearer("somebody")
    elif mechanism == "PLAIN":
        options = secured.options(PLAIN_USER, PLAIN_SECRET, mechanism)
    else:
        options = secured.options(somebody(mechanism), SECRET, mechanism)
    log = KafkaLog.open(secured.secured, clock=SystemClock(), options=options)
    try:
        await log.cluster.reach(10.0)
        assert (await log.cluster.facts()).brokers == 1
    finally:
        await log.close()


def test_a_wrong_password_is_told_at_once_and_not_repeated(secured, somebody, folder):
    """K063: waiting would not help, and neither would the password on a screen."""
    options = secured.options(somebody(), "wr0ng-55e")
    began = time.monotonic()
    done = folder.run("list", kafka__bootstrap=secured.secured, kafka__options=options)
    worker = folder.run(
        "worker", folder.file, kafka__bootstrap=secured.secured, kafka__options=options
    )

    assert (done.code, worker.code) == (5, 5)
    assert "error[K063]: no answer from" in done.err
    assert "invalid credentials" in done.err
    assert "error[K063]" in worker.err
    assert "wr0ng-55e" not in done.out + done.err + worker.out + worker.err
    assert time.monotonic() - began < 20


def test_a_broker_that_nobody_vouches_for_is_refused(secured, somebody, folder):
    """Else the password would go to whoever answers."""
    options = secured.options(somebody(), SECRET)
    options["ssl.ca.location"] = str(secured.ca.with_name("stranger.crt"))
    done = folder.run("list", kafka__bootstrap=secured.secured, kafka__options=options)

    assert done.code == 5
    assert "error[K063]" in done.err
    assert "certificate verify failed" in done.err
    assert SECRET not in done.err


def test_without_tls_options_a_tls_port_is_told_in_seconds(secured, folder):
    """The two talk past each other; the message says what to look at."""
    done = folder.run("list", "--kafka", secured.secured)

    assert done.code == 4
    assert f"error[K013]: no answer from {secured.secured}" in done.err
    assert "security.protocol" in done.err


def test_an_option_that_does_not_exist_is_named(folder, secured):
    """K060, before anything is tried."""
    options = {"sasl.pasword": SECRET}
    done = folder.run("list", kafka__bootstrap=secured.secured, kafka__options=options)

    assert done.code == 1
    assert "error[K060]" in done.err
    assert "sasl.pasword" in done.err
    assert SECRET not in done.err


def test_the_acls_of_the_plan_are_enough_to_run_a_pipeline(secured, somebody, folder):
    """`plan -o json` is what an administrator grants: whoever applies, works, or submits gets what
    its role says and nothing else."""
    who = {role: somebody() for role in ("apply", "worker", "client")}
    settings = {
        role: {
            "kafka__bootstrap": secured.secured,
            "kafka__options": secured.options(name, SECRET),
            "state_dir": str(folder.path / f"state-{role}"),
        }
        for role, name in who.items()
    }
    needed = folder.run("plan", folder.file, "-o", "json", "--kafka", secured.plain).json["acls"]
    forbidden = folder.run("apply", folder.file, **settings["apply"])
    for role, name in who.items():
        secured.allow(name, [acl for acl in needed if acl["role"] == role])

    applied = folder.run("apply", folder.file, **settings["apply"])
    with folder.running("worker", folder.file, **settings["worker"]):
        job = folder.run("submit", "p", "--watch", "--timeout", "40s", **settings["client"])
        listed = folder.run("list", "-o", "json", **settings["client"])

    assert forbidden.code == 5
    assert f"not allowed: create, describe on topic {folder.prefix}.intake" in forbidden.err
    assert applied.code == 0, applied.err
    assert job.code == 0, job.err + folder.said
    assert [each["status"] for each in listed.json] == ["succeeded"]
    assert "worker.failed" not in folder.said
    assert SECRET not in folder.said + job.err + applied.err


def test_every_missing_acl_is_named_at_the_start_and_by_doctor(secured, somebody, folder):
    """All at once: whoever grants them waits for a ticket each time."""
    folder.run("apply", folder.file, "--kafka", secured.plain)
    needed = folder.run("plan", folder.file, "-o", "json", "--kafka", secured.plain).json["acls"]
    mine = [acl for acl in needed if acl["role"] == "worker"]
    ledger, keeper = f"{folder.prefix}.ledger", f"{folder.prefix}.keeper"
    given = [
        {**acl, "operations": ["read"]} if acl["name"] == ledger else acl
        for acl in mine
        if acl["name"] not in (keeper, f"{keeper}.")
    ]
    # `doctor` also looks at who is in the groups.
    given.append(
        {"resource": "group", "name": keeper, "pattern": "literal", "operations": ["describe"]}
    )
    name = somebody()
    secured.allow(name, given)
    settings = {
        "kafka__bootstrap": secured.secured,
        "kafka__options": secured.options(name, SECRET),
    }

    worker = folder.run("worker", folder.file, **settings)
    doctor = folder.run("doctor", "-o", "json", **settings)

    assert worker.code == 5
    assert f"error[K062]: not allowed: write on topic {ledger}\n" in worker.err
    assert f"not allowed: read on group {keeper}\n" in worker.err
    failed = {each["detail"] for each in doctor.json if each["state"] == "failed"}
    assert {
        f"K062: not allowed: write on topic {ledger}",
        f"K062: not allowed: read on group {keeper}",
        f"K062: not allowed: write on transactional id {keeper}.doctor",
    } <= failed
    assert doctor.code == 1


def test_a_missing_transactional_id_ends_the_worker_with_its_name(secured, somebody, folder):
    """Kafka tells nobody beforehand what may be done with an id; the first use does."""
    folder.run("apply", folder.file, "--kafka", secured.plain)
    needed = folder.run("plan", folder.file, "-o", "json", "--kafka", secured.plain).json["acls"]
    name = somebody()
    ids = ("transactional_id",)
    secured.allow(name, [a for a in needed if a["role"] == "worker" and a["resource"] not in ids])

    done = folder.run(
        "worker",
        folder.file,
        kafka__bootstrap=secured.secured,
        kafka__options=secured.options(name, SECRET),
    )

    assert done.code == 5
    assert f"opening the producer {folder.prefix}." in done.err
    assert "Transactional Id authorization failed" in done.err
