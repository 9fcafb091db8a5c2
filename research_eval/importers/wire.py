"""The two binary formats that event files are made of: Protocol Buffers, and framed records."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

from research_eval.errors import DataError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Fields = dict[int, list[Any]]


def fields(message: bytes) -> Fields:
    """Return the fields of a message by number: int, bytes, or the raw bytes of a fixed number.

    Raises:
        ValueError: If it is not a message.
    """
    found: Fields = {}
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        match key & 7:
            case 0:
                value, at = _varint(message, at)
                found.setdefault(key >> 3, []).append(value)
                continue
            case 1:
                size = 8
            case 5:
                size = 4
            case 2:
                size, at = _varint(message, at)
            case kind:
                raise ValueError(f"no field begins with the type {kind}")
        if at + size > len(message):
            raise ValueError("the message ends inside of a field")
        found.setdefault(key >> 3, []).append(message[at : at + size])
        at += size
    return found


def last(found: Fields, number: int, default: Any = None) -> Any:
    """Return the value of a field that occurs once."""
    return found[number][-1] if number in found else default


def text(found: Fields, number: int) -> str:
    """Return a text field, "" if it is not set."""
    return bytes(last(found, number, b"")).decode("utf-8", "replace")


def signed(value: int) -> int:
    """Return the int64 behind a varint."""
    return value - 2**64 if value >= 2**63 else value


def double(raw: bytes) -> float:
    """Return the number behind a field of 8 bytes."""
    return float(struct.unpack("<d", raw)[0])


def single(raw: bytes) -> float:
    """Return the number behind a field of 4 bytes."""
    return float(struct.unpack("<f", raw)[0])


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise ValueError("the message ends inside of a number")
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


# TFRecord, of TensorBoard

CHECKED_BYTES = 4096
"""Larger payloads are images and histograms, which are skipped: CRC32C in Python takes 0.1 s/MB."""


def tensorflow_records(path: Path) -> Iterator[bytes]:
    """Yield the records of a TFRecord file; a torn last one is left out.

    Raises:
        DataError: If it is not such a file, or is damaged before its end.
    """
    with path.open("rb") as file:
        while len(head := file.read(12)) == 12:
            size, check = struct.unpack("<QI", head)
            if _masked_crc32c(head[:8]) != check:
                raise DataError(f"{path} is damaged, or is no event file of TensorBoard")
            data, foot = file.read(size), file.read(4)
            if len(data) < size or len(foot) < 4:
                return
            if size <= CHECKED_BYTES and _masked_crc32c(data) != struct.unpack("<I", foot)[0]:
                raise DataError(f"{path} is damaged: a record does not match its checksum")
            yield data


def _masked_crc32c(data: bytes) -> int:
    crc, table = 0xFFFFFFFF, _crc32c_table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@cache
def _crc32c_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


# The log of LevelDB, of W&B

BLOCK_BYTES = 32768
WANDB_HEAD = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def wandb_records(path: Path) -> Iterator[bytes]:
    """Yield the records of a `.wandb` file; a torn last one is left out.

    Raises:
        DataError: If it is not such a file, or is damaged before its end.
    """
    with path.open("rb") as file:
        if file.read(len(WANDB_HEAD)) != WANDB_HEAD:
            raise DataError(f"{path} is not a W&B file of the version that is understood, 0")
        parts: list[bytes] = []
        while True:
            room = BLOCK_BYTES - file.tell() % BLOCK_BYTES
            if room < 7:
                file.read(room)
            head = file.read(7)
            if len(head) < 7:
                return
            check, size, kind = struct.unpack("<IHB", head)
            data = file.read(size)
            if len(data) < size:
                return
            if crc32(data, crc32(bytes([kind]))) != check:
                if not any(head) or not file.read(1):
                    return
                raise DataError(f"{path} is damaged: a record does not match its checksum")
            if kind in (FULL, FIRST):
                parts = []
            parts.append(data)
            if kind in (FULL, LAST):
                yield b"".join(parts)
