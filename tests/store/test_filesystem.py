"""A store on a network file system is noticed and said."""

import logging

import pytest

from research_eval.store import Store, filesystem


@pytest.fixture
def mounts(tmp_path, monkeypatch):
    """Return a function that mounts a type of file system on a folder of this test."""
    table = tmp_path / "mounts"

    def mount(kind, name):
        place = tmp_path / name
        place.mkdir()
        point = str(place).replace(" ", r"\040")
        table.write_text(f"/dev/sda / ext4 rw 0 0\nhost:/x {point} {kind} rw,noatime 0 0\n")
        monkeypatch.setattr(filesystem, "MOUNTS", table)
        return place

    return mount


@pytest.mark.parametrize("kind", ["nfs4", "nfs", "cifs", "lustre", "gpfs", "fuse.sshfs", "9p"])
def test_a_store_on_a_network_is_said_in_one_line_and_once(mounts, caplog, kind):
    folder = mounts(kind, "on a net") / "deeper"
    folder.mkdir()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            Store.open(folder / "runs.db", create=True).close()
    (message,) = caplog.messages
    assert message.startswith(f"{folder} lies on a network file system ({kind})")
    assert "RESEARCH_EVAL_SPOOL" in message
    assert "PostgreSQL" in message
    assert "\n" not in message


@pytest.mark.parametrize("kind", ["ext4", "xfs", "overlay", "fuseblk", "tmpfs"])
def test_a_store_on_a_disk_is_not(mounts, caplog, kind):
    folder = mounts(kind, "disk")
    Store.open(folder / "runs.db", create=True).close()
    assert caplog.messages == []


def test_where_mounts_cannot_be_read_nothing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(filesystem, "MOUNTS", tmp_path / "missing")
    assert filesystem.network_type(tmp_path) is None
