"""The guards of conftest.py guard."""

import os
import socket
from pathlib import Path

import pytest


def test_a_connection_that_leaves_the_machine_is_refused():
    with socket.socket() as outside, pytest.raises(RuntimeError, match="no network"):
        outside.connect(("192.0.2.1", 80))


def test_the_machine_itself_can_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


def test_home_and_working_directory_belong_to_the_test(tmp_path):
    assert "research-eval-tests-" in os.environ["HOME"]
    assert Path.cwd().is_relative_to(tmp_path)
    assert not list(Path.cwd().iterdir())
