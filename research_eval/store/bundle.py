"""Runs in one file, to be kept or sent, and taken in elsewhere without loss.

A bundle is a zip file of `manifest.json`, `runs.db` (a store of its own, which any program that
reads SQLite reads) and, where asked, files of the runs under `artifacts/`. The manifest holds the
version of the format and the sha256 of everything else.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import shutil
import sqlite3
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from sqlalchemy import delete, select

from research_eval.anonymity import Anonymizer
from research_eval.errors import StoreError
from research_eval.records import Artifact, ArtifactKind
from research_eval.store.anonymous import anonymize_database, anonymize_files
from research_eval.store.creation import LATEST
from research_eval.store.database import Store
from research_eval.store.queries import read_artifacts
from research_eval.store.schema import artifacts, experiments
from research_eval.store.transfer import (
    RUNS_AT_ONCE,
    count_rows,
    in_chunks,
    transfer,
    transfer_studies,
)

FORMAT = 1
MANIFEST = "manifest.json"
DATABASE = "runs.db"
FILES = "artifacts"
UNPACKING = ".import-"
"""Beginning of the name of a folder that holds a bundle while it is taken in."""
_BLOCK = 2**20
_MAX_MANIFEST = 2**28
_UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, RuntimeError)
"""What `zipfile` raises at files that are damaged, encrypted or packed in a way it cannot read."""


@dataclass(frozen=True, slots=True)
class Export:
    """What a bundle will hold.

    Attributes:
        ids: The runs, parents before children.
        parents: Those of them that were not asked for, but are parents of others.
        rows: Number of rows in all tables.
        files: Files that travel with them.
    """

    ids: tuple[str, ...]
    parents: tuple[str, ...]
    rows: int
    files: tuple[Artifact, ...]

    @property
    def file_bytes(self) -> int:
        """Size of the files."""
        return sum(file.bytes for file in self.files)


def plan_export(store: Store, ids: Sequence[str], kinds: Collection[ArtifactKind]) -> Export:
    """Return what a bundle of these runs, with their files of these kinds, would hold."""
    with store._reading() as connection:
        columns = select(experiments.c.experiment_id, experiments.c.parent, experiments.c.id)
        parents = {row.experiment_id: row for row in connection.execute(columns)}
        chosen = set(ids)
        waiting = list(ids)
        while waiting:
            parent = parents[waiting.pop()].parent
            if parent is not None and parent not in chosen:
                chosen.add(parent)
                waiting.append(parent)
        ordered = tuple(sorted(chosen, key=lambda run: parents[run].id))
        files = [
            file
            for run in ordered
            for file in read_artifacts(connection, run)
            if file.kind in kinds
        ]
        added = tuple(run for run in ordered if run not in set(ids))
        return Export(ordered, added, count_rows(connection, ordered), tuple(files))


def write_bundle(
    store: Store, export: Export, path: Path, anonymizer: Anonymizer | None = None
) -> int:
    """Write a bundle and return its size in bytes; it appears under its name when it is complete.

    Records of files that do not travel are left out, so that what a bundle says is true.

    Args:
        store: Where the runs are.
        export: What to write.
        path: A new file.
        anonymizer: Takes out what tells who made the runs; None leaves it in.

    Raises:
        StoreError: If the file exists or cannot be written, or a file of a run is missing, is not
            what was recorded, or cannot be made anonymous.
    """
    if path.exists():
        raise StoreError(f"{path} exists already; remove it or choose another name")
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as name:
            made = Path(name, path.name)
            database = Path(name, DATABASE)
            _fill(store, export, database)
            folder = store.artifact_dir
            if anonymizer is not None:
                folder = Path(name, FILES)
                folder.mkdir()
                export = _anonymized(export, store.artifact_dir, database, folder, anonymizer)
            with zipfile.ZipFile(made, "x", zipfile.ZIP_DEFLATED, compresslevel=1) as bundle:
                told = {DATABASE: _add(bundle, DATABASE, database)}
                for file in export.files:
                    told[f"{FILES}/{file.path}"] = _add_file(bundle, file, folder)
                manifest = _manifest(export, told, is_anonymous=anonymizer is not None)
                with bundle.open(MANIFEST, "w") as target:  # `writestr` would tell the local time
                    target.write(json.dumps(manifest, indent=1).encode())
            size = made.stat().st_size
            made.rename(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error}") from error
    return size


def _anonymized(
    export: Export, source: Path, database: Path, folder: Path, anonymizer: Anonymizer
) -> Export:
    """Make the database anonymous, and copies of the files; return what there is then."""
    files = anonymize_files(export.files, source, folder, anonymizer)
    ids = anonymize_database(database, files, anonymizer)
    return replace(export, ids=tuple(ids), files=tuple(files.values()))


def _fill(store: Store, export: Export, database: Path) -> None:
    kept = {file.path for file in export.files}
    with (
        store._reading() as source,
        Store.open(database, create=True) as inside,
        inside._writing() as target,
    ):
        of_studies = select(experiments.c.study, experiments.c.experiment_id)
        wanted = {
            row.study
            for row in source.execute(of_studies)
            if row.study is not None and row.experiment_id in set(export.ids)
        }
        transfer_studies(source, target, wanted)
        transfer(source, target, export.ids)
        every = target.scalars(select(artifacts.c.path)).all()
        for group in in_chunks((path for path in every if path not in kept), RUNS_AT_ONCE):
            target.execute(delete(artifacts).where(artifacts.c.path.in_(group)))
    with closing(sqlite3.connect(database)) as packed:
        # A file in write-ahead mode cannot be read where its folder cannot be written.
        packed.execute("PRAGMA journal_mode = DELETE")


def _add(bundle: zipfile.ZipFile, member: str, source: Path) -> dict[str, Any]:
    with source.open("rb") as file, bundle.open(member, "w", force_zip64=True) as target:
        sha256, size = _pour(file, target)
    return {"sha256": sha256, "bytes": size}


def _add_file(bundle: zipfile.ZipFile, file: Artifact, folder: Path) -> dict[str, Any]:
    told = _add(bundle, f"{FILES}/{file.path}", folder / file.path)
    if told["sha256"] != file.sha256:
        raise StoreError(
            f"{folder / file.path} was changed after it was recorded; export without its kind, or "
            "put the file back"
        )
    return told


def _pour(source: Any, target: Any, limit: int | None = None) -> tuple[str, int]:
    """Copy a file; return its sha256 and its size. More than the limit is not read."""
    digest, size = hashlib.sha256(), 0
    while block := source.read(_BLOCK):
        size += len(block)
        if limit is not None and size > limit:
            break
        digest.update(block)
        target.write(block)
    return digest.hexdigest(), size


def _manifest(
    export: Export, files: dict[str, dict[str, Any]], *, is_anonymous: bool
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "schema": LATEST,
        "program": f"research-eval {version('research-eval')}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "anonymous": is_anonymous,
        "runs": list(export.ids),
        "files": files,
    }


# --------------------------------------------------------------------------------- taking apart


@contextmanager
def unpacked(path: Path, near: Path) -> Iterator[Path]:
    """Yield a folder with the content of a bundle, checked against its manifest.

    Args:
        path: The bundle.
        near: A folder on the disk where the content belongs; it is unpacked there.

    Raises:
        StoreError: If it is not a bundle, is damaged, or is of a newer format.
    """
    with tempfile.TemporaryDirectory(dir=near, prefix=UNPACKING) as name:
        folder = Path(name)
        with _opened(path) as bundle:
            _unpack(bundle, path, folder)
        yield folder


def _unpack(bundle: zipfile.ZipFile, path: Path, folder: Path) -> None:
    files = _read_manifest(bundle, path)["files"]
    needed, free = sum(told["bytes"] for told in files.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise StoreError(
            f"{path} unpacks to {needed:,} bytes, and {free:,} are free in {folder.parent}"
        )
    for member, told in files.items():
        place = folder / member
        place.parent.mkdir(parents=True, exist_ok=True)
        with bundle.open(member) as source, place.open("xb") as target:
            found = _pour(source, target, told["bytes"])
        if found != (told["sha256"], told["bytes"]):
            raise _damaged(path, f"{member} is not what its manifest says")


def check_bundle(path: Path) -> dict[str, Any]:
    """Return a bundle's manifest, checked, before a store is made for it.

    Raises:
        StoreError: As `unpacked` does.
    """
    with _opened(path) as bundle:
        return _read_manifest(bundle, path)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as bundle:
            yield bundle
    except _UNREADABLE as error:
        raise _damaged(path, str(error) or "it ends too early") from error
    except OSError as error:
        raise StoreError(f"{path} cannot be unpacked: {error.strerror or error}") from error


def _read_manifest(bundle: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    """Return the manifest; none of its `files` leads out of the bundle."""
    members = bundle.namelist()
    if MANIFEST not in members or bundle.getinfo(MANIFEST).file_size > _MAX_MANIFEST:
        raise _damaged(path, f"it has no {MANIFEST}")
    try:
        manifest = json.loads(bundle.read(MANIFEST))
        form, files = manifest["format"], dict(manifest["files"])
        is_whole = all(
            isinstance(told["bytes"], int) and isinstance(told["sha256"], str)
            for told in files.values()
        )
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"its {MANIFEST} cannot be read") from error
    if form != FORMAT:
        raise StoreError(
            f"{path} has format {form}, and this version of research-eval reads {FORMAT}; "
            "pip install --upgrade research-eval"
        )
    if not is_whole or sorted(members) != sorted([*files, MANIFEST]) or DATABASE not in files:
        raise _damaged(path, "its files are not those of its manifest")
    for member in files:
        if not is_inside(member) or (member != DATABASE and not member.startswith(f"{FILES}/")):
            raise _damaged(path, f"the file '{member}' would lie outside of the store")
    return {**manifest, "files": files}


def is_inside(path: str) -> bool:
    """Return whether a relative path, in the spelling of POSIX, stays below where it starts."""
    parts = PurePosixPath(path).parts
    return (
        bool(parts)
        and not path.startswith("/")
        and "\\" not in path
        and ":" not in parts[0]
        and ".." not in parts
        and "/".join(parts) == path
    )


def _damaged(path: Path, why: str) -> StoreError:
    return StoreError(f"{path} is damaged or is not a bundle: {why}; nothing was imported")
