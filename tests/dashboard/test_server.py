"""The command as a process: how it begins and ends, and what cannot hold it up."""

import json
import signal
import socket
import time
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from research_eval.cli import main
from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.testing.runs import new_run


def connect(address):
    parts = urlsplit(address)
    return closing(HTTPConnection(parts.hostname, parts.port, timeout=10))


def get(address, path):
    with connect(address) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()


def listen(connection, cookie):
    """Open the stream of events and return it after its first line."""
    connection.request("GET", "/api/v1/events", headers={"Cookie": cookie})
    stream = connection.getresponse()
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.readline().startswith(b"retry")
    return stream


def next_event(stream):
    for line in stream:
        if line.startswith(b"event: "):
            return line.strip()
    raise AssertionError("the stream ended")


def test_it_prints_one_address_and_answers_there(address):
    status, body = get(address, "/api/v1/runs?limit=3")
    assert status == 200
    assert len(json.loads(body)["ids"]) == 3


def test_pages_hear_of_changes_training_goes_on_and_sigterm_ends_it_at_once(serve, tmp_path):
    file = tmp_path / "live.db"
    with Store.open(file, create=True) as store, ExitStack() as streams:
        run = store.start(new_run("live"))
        run.flush()
        address, process = streams.enter_context(serve(file, "--token"))
        key = address.partition("?")[2]
        assert get(address, "/api/v1/runs")[0] == 401
        with connect(address) as first:
            first.request("GET", f"/runs?{key}")
            cookie = first.getresponse().headers["set-cookie"].partition(";")[0]
        stream = listen(streams.enter_context(connect(address)), cookie)
        for step in range(150):  # the first look must have happened
            run.log({"loss": 1.0}, step=step)
            run.flush()
            time.sleep(0.01)
        assert next_event(stream) == b"event: changed"
        run.finish(RunStatus.COMPLETED)
        assert store.run("live").metrics["loss"].count == 150
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)
        assert time.monotonic() - began < 2
        assert process.returncode == -signal.SIGTERM
        assert "Traceback" not in process.stderr.read()


def test_hundreds_of_slow_clients_do_not_keep_others_out(address):
    parts = urlsplit(address)
    with ExitStack() as slow:
        for _ in range(200):
            made = slow.enter_context(socket.create_connection((parts.hostname, parts.port)))
            made.sendall(b"GET /runs HTTP/1.1\r\nHost: loc")
        assert get(address, "/api/v1/runs?limit=1")[0] == 200


def told(capsys, *arguments):
    code = main(["dashboard", *arguments])
    return code, capsys.readouterr().err


def test_a_missing_database_is_an_error_and_not_made(capsys, tmp_path):
    code, said = told(capsys, "--db", str(tmp_path / "no.db"))
    assert code == 4
    assert "there is no database" in said
    assert not (tmp_path / "no.db").exists()


def test_a_port_that_is_taken_is_an_error(capsys, filled):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, said = told(capsys, "--db", str(filled), "--port", port)
    assert code == 2
    assert f"port {port} is taken by another program" in said


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_an_error(capsys, filled, host):
    code, said = told(capsys, "--db", str(filled), "--host", host, "--port", "0")
    assert code == 2
    assert f"cannot listen on {host}" in said
