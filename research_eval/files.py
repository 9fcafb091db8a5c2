"""Files that a reader never sees half of."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

from research_eval.errors import ConfigError, StoreError


def safe_name(name: str) -> str:
    """Return a name in letters that every file system takes; different ones may become one."""
    return re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII)


def expanded(path: str) -> Path:
    """Return a path with `~` replaced; the home of a user who is not known here stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_there(path: Path) -> bool:
    """Return whether something lies there that this user may see; folders of others hide theirs."""
    try:
        return path.exists()
    except OSError:
        return False


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file beside the old one and put it in its place; missing folders are made.

    Raises:
        StoreError: If it cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    fresh = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            fresh.write_bytes(data)
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error


def write_once(path: Path, text: str) -> None:
    """Write a file of a person's choice; one that says the same may stay, another one does.

    Raises:
        ConfigError: If another one is there.
        StoreError: If it cannot be written.
    """
    try:
        is_taken = path.exists() and path.read_text(encoding="utf-8", errors="replace") != text
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from None
    if is_taken:
        raise ConfigError(
            f"{path} is there already and says something else; choose another --output"
        )
    replace_file(path, text)


def append_to_file(path: Path, content: str) -> bool:
    """Add to the end of a file by a single write; return False if there is no such file.

    Raises:
        StoreError: If it cannot be written; then the file is as it was.
    """
    data = content.encode()
    try:
        with path.open("r+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if file.write(data) != len(data):
                file.truncate(end)
                raise StoreError(f"{path} cannot be written: the disk is full")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error
    return True


def require_writable(folder: Path) -> None:
    """Check that files can be made in the folder of a command, before anything takes time.

    What was not there is not there afterwards.

    Raises:
        StoreError: If not.
    """
    missing: list[Path] = []
    probe = folder / f".{secrets.token_hex(8)}"
    try:
        missing += takewhile(lambda each: not each.exists(), (folder, *folder.parents))
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StoreError(
            f"the folder {folder} cannot be written: {error.strerror}; name another one with "
            "--output-dir"
        ) from error
    finally:
        for each in missing:
            with suppress(OSError):
                each.rmdir()
