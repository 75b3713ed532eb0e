"""A node's ports, settings and folder."""

import socket

import pytest

from streams.broker.devbroker import nodes
from streams.broker.devbroker.nodes import Node
from streams.errors import UserError

ONE = [Node(1, 9092, 40001)]
THREE = [Node(1, 9092, 40001), Node(2, 9093, 40002), Node(3, 9094, 40003)]


class TestPorts:
    def test_zero_takes_any_that_are_free(self):
        chosen = nodes.choose_ports(3, 0)

        ports = [port for node in chosen for port in (node.port, node.controller_port)]
        assert [node.id for node in chosen] == [1, 2, 3]
        assert len(set(ports)) == 6

    def test_several_nodes_take_the_port_and_the_next_ones(self):
        free = nodes.choose_ports(1, 0)[0].port
        try:
            chosen = nodes.choose_ports(2, free)
        except UserError:
            pytest.skip("somebody took the next port meanwhile")

        assert [node.port for node in chosen] == [free, free + 1]

    def test_one_that_is_taken_is_refused_with_its_number(self):
        """N005, before anything is started."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]

            with pytest.raises(UserError) as refused:
                nodes.choose_ports(1, port)

        assert refused.value.code == "N005"
        assert refused.value.message == (
            f"port {port} of this machine is not to be had: Address already in use"
        )
        assert "--port 0" in refused.value.help


class TestSettings:
    def test_a_single_node_copies_nothing(self, tmp_path):
        """Else its own topics could not be created."""
        settings = nodes.settings(tmp_path, ONE[0], ONE, {})

        assert settings["controller.quorum.voters"] == "1@127.0.0.1:40001"
        assert settings["transaction.state.log.replication.factor"] == "1"
        assert settings["min.insync.replicas"] == "1"

    def test_three_nodes_keep_three_copies_and_want_two(self, tmp_path):
        """As a cluster that survives a node, so that the tests that kill one mean something."""
        settings = nodes.settings(tmp_path, THREE[1], THREE, {})

        assert settings["node.id"] == "2"
        assert settings["listeners"] == "PLAINTEXT://127.0.0.1:9093,CONTROLLER://127.0.0.1:40002"
        assert settings["default.replication.factor"] == "3"
        assert settings["min.insync.replicas"] == "2"
        assert settings["transaction.state.log.min.isr"] == "2"

    def test_it_listens_on_this_machine_only(self, tmp_path):
        """No password guards it."""
        for key in ("listeners", "advertised.listeners"):
            for listener in nodes.settings(tmp_path, ONE[0], ONE, {})[key].split(","):
                assert "://127.0.0.1:" in listener

    def test_settings_that_are_given_win(self, tmp_path):
        given = {"num.partitions": "1", "transaction.max.timeout.ms": "20000"}

        settings = nodes.settings(tmp_path, ONE[0], ONE, given)

        assert settings["num.partitions"] == "1"
        assert settings["transaction.max.timeout.ms"] == "20000"

    def test_a_path_is_written_as_java_reads_it(self):
        """Properties files are Latin-1 with escapes: a home called Zoë must work."""
        assert nodes.escaped("/home/Zoë/a\\b") == "/home/Zo\\u00eb/a\\\\b"


class TestFolder:
    def test_a_new_node_is_given_its_identity(self, tmp_path):
        nodes.prepare(tmp_path, ONE[0], ONE, cluster_id="abc", given={})

        identity = tmp_path / "node-1" / "data" / "meta.properties"
        assert identity.read_text() == "version=1\nnode.id=1\ncluster.id=abc\n"

    def test_a_new_cluster_has_the_features_of_its_version(self, tmp_path):
        """Else it would be Kafka 3.3 to its clients: KIP-848 and KIP-890 would go untested."""
        nodes.prepare(tmp_path, ONE[0], ONE, cluster_id="abc", given={})

        written = (tmp_path / "node-1" / "data" / "bootstrap.checkpoint").read_bytes()
        assert len(written) == 355
        for feature in (b"metadata.version", b"group.version", b"transaction.version"):
            assert feature in written

    def test_an_old_one_keeps_it(self, tmp_path):
        """Kafka adds to that file; overwritten, the data would be refused."""
        nodes.prepare(tmp_path, ONE[0], ONE, cluster_id="abc", given={})
        identity = tmp_path / "node-1" / "data" / "meta.properties"
        identity.write_text("what Kafka made of it")

        nodes.prepare(tmp_path, ONE[0], ONE, cluster_id="abc", given={})

        assert identity.read_text() == "what Kafka made of it"

    def test_the_log_of_the_run_before_is_kept(self, tmp_path):
        """The reason why it ended is mostly there."""
        nodes.prepare(tmp_path, ONE[0], ONE, cluster_id="abc", given={})
        nodes.log_file(tmp_path, 1).write_text("last words")

        nodes.prepare(tmp_path, ONE[0], ONE, cluster_id="abc", given={})

        assert (tmp_path / "node-1" / "broker.log.1").read_text() == "last words"

    def test_the_tail_is_the_last_lines(self, tmp_path):
        log = tmp_path / "log"
        log.write_text("".join(f"{n}\n" for n in range(100)))

        assert nodes.tail(log) == [str(n) for n in range(85, 100)]
        assert nodes.tail(tmp_path / "none") == []
