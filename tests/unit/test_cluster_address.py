"""Addresses of clusters: what is none, and what answers there, is known before Ray is asked."""

import contextlib
import socket
import threading

import pytest

from compiler.execution import ray_cluster
from compiler.execution.ray_cluster import check_answers
from targets.errors import InputError
from tests.cli import call

SETTINGS = bytes((0, 0, 6, 4, 0, 0, 0, 0, 0)) + bytes(6)
SILENCE, OLD_WEB = b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"


@pytest.fixture
def listening():
    """A function that opens a server which says so much to whoever connects; it gives the address."""
    open_sockets = []

    def serve(said):
        server = socket.create_server(("127.0.0.1", 0))
        open_sockets.append(server)

        def answer():
            with contextlib.suppress(OSError):  # closed, and nobody came
                connection, _ = server.accept()
                open_sockets.append(connection)
                connection.sendall(said)

        threading.Thread(target=answer, daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield serve
    for each in open_sockets:
        each.close()


NONE = [
    "here", ":", "h:", ":1", "h:0", "h:99999", "h:9" + "9" * 5000, "h:²", "h:٣", " h:1", "h:1\n", "ray://h:1", "h/x:1", "é:1", "local:x", "a..b:1", f"{'a' * 100}:1",
    f"{'a' * 300}:1", "[::1:1", "--ray",
]  # fmt: skip


@pytest.mark.parametrize("address", NONE, ids=lambda text: ascii(text)[:20])
def test_what_is_no_address_is_said(address):
    with pytest.raises(InputError, match="is no address\nwrite auto, local or HOST:PORT"):
        check_answers(address)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1"])
def test_where_nothing_answers_is_said(address):
    with pytest.raises(InputError, match="no Ray cluster answers at"):
        check_answers(address)


@pytest.mark.parametrize("said", [SILENCE, OLD_WEB, b"SSH-2.0-x\r\n"])
def test_something_else_that_listens_is_no_cluster(said, listening, monkeypatch):
    monkeypatch.setattr(ray_cluster, "_PATIENCE_S", 0.3)
    with pytest.raises(InputError, match="what listens there is something else"):
        check_answers(listening(said))


def test_what_speaks_as_the_head_of_a_cluster_does_is_left_to_ray(listening):
    check_answers(listening(SETTINGS))


def test_with_tls_no_plain_words_are_sent(listening, monkeypatch):
    monkeypatch.setenv("RAY_USE_TLS", "1")
    check_answers(listening(SILENCE))


def test_a_worker_says_which_address_it_needs():
    pytest.importorskip("ray")
    done = call("worker", "--target", "cpu", "--ray", "auto")
    assert (done.code, done.message) == (
        2,
        ["--ray 'auto' is no address", "write HOST:PORT, where the cluster's head is"],
    )


def test_a_worker_that_cannot_join_ends_with_a_message(listening, monkeypatch, tmp_path):
    program = tmp_path / "ray"
    program.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr("compiler.cli.worker.sys.executable", str(tmp_path / "python"))
    address = listening(SETTINGS)
    done = call("worker", "--target", "cpu", "--ray", address)
    assert done.code == 3
    assert done.message[0] == f"Ray ended with 1, and this machine is no node of the cluster at {address}"
