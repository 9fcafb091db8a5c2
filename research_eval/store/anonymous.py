"""A bundle without what tells who made its runs: its database and its files."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from sqlalchemy import Connection, select

from research_eval.anonymity import Anonymizer, Identity, identities_in
from research_eval.errors import StoreError
from research_eval.records import Artifact
from research_eval.store.database import Store
from research_eval.store.schema import attempts, studies

_HEADER_BYTES = 8  # of a safetensors file: the length of the JSON text that follows


def anonymizer_of(store: Store, ids: Sequence[str]) -> Anonymizer:
    """Return an anonymizer that knows this machine and all that is recorded of some runs."""
    records = [store.run(each) for each in ids]
    keys = [record.id for record in records]
    names = {record.study for record in records}
    with store._reading() as connection:
        more = [Identity("host", host) for host in _hosts(connection, keys)]
        specs = connection.execute(select(studies.c.name, studies.c.spec_json))
        for name, spec in specs:
            if name in names:
                more += identities_in(json.loads(spec))
    return Anonymizer.of(records, more)


def _hosts(connection: Connection, keys: Sequence[int]) -> set[str]:
    known = set(keys)
    rows = connection.execute(select(attempts.c.run_id, attempts.c.host).distinct())
    return {row.host for row in rows if row.run_id in known and row.host is not None}


def anonymize_files(
    files: Sequence[Artifact], folder: Path, target: Path, anonymizer: Anonymizer
) -> dict[str, Artifact]:
    """Write files without what identifies, under names without what identifies.

    Args:
        files: Of runs.
        folder: What their paths are relative to.
        target: The same for what is written; exists.
        anonymizer: Of these runs.

    Returns:
        What was written by the paths of before.

    Raises:
        StoreError: If a file is not what was recorded, or is of a kind that cannot be changed and
            holds what identifies.
    """
    written = {}
    for file in files:
        source = folder / file.path
        content = source.read_bytes()
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise StoreError(
                f"{source} was changed after it was recorded; export without its kind, or put the "
                "file back"
            )
        changed = _anonymized(content, source, anonymizer)
        path = target / anonymizer.text(file.path, "names of files")
        if path.exists():
            raise StoreError(
                f"{source} and another file would both be called {path.relative_to(target)}; "
                "export without files of its kind"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(changed)
        written[file.path] = replace(
            file,
            path=path.relative_to(target).as_posix(),
            sha256=hashlib.sha256(changed).hexdigest(),
            bytes=len(changed),
        )
    return written


def _anonymized(content: bytes, source: Path, anonymizer: Anonymizer) -> bytes:
    where = f"the file {source.name}"
    if source.suffix == ".safetensors":
        return _weights(content, where, anonymizer)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return _unchanged(content, source, anonymizer)
    if "\0" in text:
        return _unchanged(content, source, anonymizer)
    if source.suffix == ".py":
        return _program(text, source, anonymizer).encode()
    if source.suffix in (".json", ".jsonl"):
        lines = [text] if source.suffix == ".json" else text.splitlines()
        return "\n".join(anonymizer.json(line, where) if line else "" for line in lines).encode()
    return anonymizer.text(text, where).encode()


def _program(text: str, source: Path, anonymizer: Anonymizer) -> str:
    changed = anonymizer.source(text, f"the file {source.name}")
    left = anonymizer.left_in(changed.encode())
    if left:
        raise StoreError(
            f"{source} names '{left[0]}', which something that it imports is called; take it out "
            "of the source and record the run again"
        )
    return changed


def _weights(content: bytes, where: str, anonymizer: Anonymizer) -> bytes:
    """Change what a safetensors file says beside its numbers; the numbers stay bit for bit.

    A tensor is called like the attribute of the plug-in that holds it, which changes too.
    """
    length = int.from_bytes(content[:_HEADER_BYTES], "little")
    header = json.loads(content[_HEADER_BYTES : _HEADER_BYTES + length])
    told = header.get("__metadata__", {})
    header = {anonymizer.text(name, where): told for name, told in header.items()}
    header["__metadata__"] = {key: anonymizer.json(text, where) for key, text in told.items()}
    changed = json.dumps(header, separators=(",", ":")).encode()
    changed += b" " * (-len(changed) % _HEADER_BYTES)
    size = len(changed).to_bytes(_HEADER_BYTES, "little")
    return size + changed + content[_HEADER_BYTES + length :]


def _unchanged(content: bytes, source: Path, anonymizer: Anonymizer) -> bytes:
    found = anonymizer.left_in(_unpacked(content, source.suffix))
    if found:
        raise StoreError(
            f"{source} holds '{found[0]}' and is of a kind that cannot be changed; export without "
            "files of its kind"
        )
    return content


def _unpacked(content: bytes, suffix: str) -> bytes:
    """Return the bytes of a file with what is compressed in it; another kind is as it is."""
    if zipfile.is_zipfile(BytesIO(content)):
        with zipfile.ZipFile(BytesIO(content)) as inside:
            members = [(name.encode(), inside.read(name)) for name in inside.namelist()]
        return content + b"\0".join(part for member in members for part in member)
    if suffix == ".parquet":
        import pyarrow.parquet as pq  # noqa: PLC0415 - only this format needs it

        table = pq.read_table(BytesIO(content))
        return content + str((table.schema.metadata, table.to_pylist())).encode()
    return content


def anonymize_database(
    path: Path, files: Mapping[str, Artifact], anonymizer: Anonymizer
) -> list[str]:
    """Replace what identifies in every text of a store of a bundle, which nobody has open.

    Args:
        path: The SQLite file.
        files: What became of the files, by their paths of before.
        anonymizer: Of these runs.

    Returns:
        The ids of the runs as they are now, parents before children.

    Raises:
        StoreError: If something identifies that is no text.
    """
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA secure_delete = ON")
        for old, new in files.items():
            database.execute(
                "UPDATE artifacts SET sha256 = ?, bytes = ? WHERE path = ?",
                (new.sha256, new.bytes, old),
            )
        database.execute("UPDATE experiments SET process = NULL")
        _replace_texts(database, anonymizer)
        for old, schema in database.execute("SELECT hash, schema_json FROM schemas").fetchall():
            new_hash = (hashlib.sha256(schema.encode()).hexdigest(), old)
            database.execute("UPDATE schemas SET hash = ? WHERE hash = ?", new_hash)
            database.execute(
                "UPDATE experiments SET schema_hash = ? WHERE schema_hash = ?", new_hash
            )
        database.commit()
        database.execute("VACUUM")  # what was there before is still in free pages
        ids = [row[0] for row in database.execute("SELECT experiment_id FROM experiments")]
    left = anonymizer.left_in(path.read_bytes())
    if left:
        raise StoreError(f"'{left[0]}' could not be taken out of the records; nothing was written")
    return ids


def _replace_texts(database: sqlite3.Connection, anonymizer: Anonymizer) -> None:
    def changed(table: str, column: str, name: str, text: str) -> str:
        if text.startswith(("{", "[")):
            return anonymizer.json(text, f"{table}.{column}")
        return anonymizer.field(name, text, table)

    database.create_function("anonymous", 4, changed, deterministic=True)
    tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (table,) in tables:
        columns = database.execute(f"PRAGMA table_info({table})").fetchall()
        for _, column, kind, *_ in columns:
            if kind == "TEXT":
                # The value of a parameter is a field of the parameter's name.
                name = "param_name" if column == "param_value" else f"'{column}'"
                statement = (
                    f"UPDATE {table} SET {column} = anonymous('{table}', '{column}', {name}, "
                    f"{column}) WHERE {column} IS NOT NULL"
                )
                try:
                    database.execute(statement)
                except sqlite3.IntegrityError as error:
                    raise StoreError(
                        f"two names in {table}.{column} would become one, since they tell the "
                        "same thing; nothing was written"
                    ) from error
