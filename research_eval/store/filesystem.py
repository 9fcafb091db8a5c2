"""Where a SQLite file lies: on a disk of this machine, or on a network."""

from __future__ import annotations

import logging
import re
from functools import cache
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
"""What is mounted where, on Linux; elsewhere nothing is detected."""

_NETWORK = re.compile(
    r"9p|afs|beegfs|ceph|cifs|fuse(\..+)?|gfs2|glusterfs|gpfs|lustre|nfs4?|ocfs2|orangefs|panfs"
    r"|pvfs2|smb3|smbfs|wekafs"
)

_log = logging.getLogger(__name__)


def network_type(folder: Path) -> str | None:
    """Return the type of the network file system that a folder lies on, or None for a disk.

    What a FUSE program offers counts as a network: most of them are (sshfs, s3fs, glusterfs).
    """
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    found = {}
    for line in lines:
        _device, point, kind, *_ = line.split(" ")
        found[Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point))] = kind
    place = folder.resolve()
    kind = next((found[each] for each in (place, *place.parents) if each in found), "")
    return kind if _NETWORK.fullmatch(kind) else None


@cache
def warn_of_network(folder: Path) -> None:
    """Say, once in a process for each folder, that SQLite is not safe there."""
    kind = network_type(folder)
    if kind is not None:
        _log.warning(
            "%s lies on a network file system (%s), where SQLite may damage its file; set "
            "RESEARCH_EVAL_SPOOL to a folder, or use PostgreSQL",
            folder,
            kind,
        )
