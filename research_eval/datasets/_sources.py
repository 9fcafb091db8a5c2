"""Where text and tokenizers come from: a path, the mirror folder, or the Hugging Face hub."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from research_eval.errors import DataError
from research_eval.files import expanded, is_there
from research_eval.spec import LoadContext

MIRROR_VARIABLE = "RESEARCH_EVAL_DATA"
TOKENIZER_FILES = ("*.json", "*.txt", "*.model")
CONNECT_TIMEOUT_S = 10.0
"""Seconds after which the hub counts as out of reach."""


@dataclass(frozen=True, slots=True)
class HubFolder:
    """A folder in a repository of the Hugging Face hub.

    Attributes:
        repo: Owner and name.
        folder: Folder in it that holds the data files, named after their splits.
        revision: Branch; `refs/convert/parquet` holds the hub's own conversion of data sets
            that were published as scripts.
    """

    repo: str
    folder: str
    revision: str = "main"


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder that exists on this machine, and how to name it in a record."""

    path: Path
    described: str


def find_data(name: str, path: str | None, hub: HubFolder | None, context: LoadContext) -> Place:
    """Return where a data set lies, fetching it if it must be fetched.

    A given path is looked at alone; else the mirror folder comes before the hub.

    Args:
        name: Of the data set, also of its folder in the mirror.
        path: File or folder, relative to the configuration.
        hub: Where it is published; None if it is not.
        context: Base folder and progress.

    Raises:
        DataError: With the ways to provide the data.
    """
    if path is not None:
        found = context.base_dir / expanded(path)
        if not is_there(found):
            raise DataError(f"dataset_params.path is {path}, but there is no {found}")
        return Place(found, str(found))
    if hub is None:
        raise DataError(
            f"data set '{name}' needs dataset_params.path: a CSV, TSV, JSON, JSONL, Parquet or "
            "text file, or a folder of such files"
        )
    mirrored = _in_mirror(name)
    if mirrored is not None:
        return mirrored
    try:
        root = _fetch(hub.repo, "dataset", hub.revision, [f"{hub.folder}/*"], context)
    except DataError as error:
        raise DataError(
            f"data set '{name}' cannot be had: {error}. Provide it in one of three ways: "
            f"set dataset_params.path to a file or folder; put it into {_mirror(name)}; "
            f"or connect to the network, so that {hub.repo} is fetched from the Hugging Face hub"
        ) from error
    return Place(root / hub.folder, f"{hub.repo} at {root.name}")


def find_tokenizer(name: str, context: LoadContext) -> Place:
    """Return the folder of a tokenizer, fetching it if it must be fetched.

    Args:
        name: A folder relative to the configuration, a folder of the mirror's `tokenizers`, or
            a name on the hub, in this order.
        context: Base folder and progress.

    Raises:
        DataError: With the ways to provide the tokenizer.
    """
    folder = context.base_dir / expanded(name)
    if is_there(folder) and folder.is_dir():
        return Place(folder, str(folder))
    if name.startswith((".", "/", "~")):
        raise DataError(f"dataset_params.tokenizer is {name}, but there is no folder {folder}")
    mirrored = _in_mirror(f"tokenizers/{name}")
    if mirrored is not None:
        return mirrored
    try:
        root = _fetch(name, "model", "main", TOKENIZER_FILES, context)
    except DataError as error:
        raise DataError(
            f"tokenizer '{name}' cannot be had: {error}. Provide it in one of three ways: "
            f"set dataset_params.tokenizer to its folder; put it into "
            f"{_mirror(f'tokenizers/{name}')}; or connect to the network, so that it is fetched "
            "from the Hugging Face hub; 'byte' needs no file"
        ) from error
    return Place(root, f"{name} at {root.name}")


def content_hash(path: Path, patterns: Iterable[str] = ("**/*",)) -> str:
    """Return the sha256 of a file, or of the visible files in a folder with their names."""
    if path.is_file():
        files = [path]
    else:
        found = {file for pattern in patterns for file in path.glob(pattern)}
        files = sorted(file for file in found if file.is_file() and not _is_hidden(file, path))
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        name = file.suffix if file == path else file.relative_to(path).as_posix()
        digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()


def _is_hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _mirror(name: str) -> str:
    return f"{os.environ.get(MIRROR_VARIABLE, f'${MIRROR_VARIABLE}').rstrip('/')}/{name}"


def _in_mirror(name: str) -> Place | None:
    root = os.environ.get(MIRROR_VARIABLE)
    if not root:
        return None
    folder = Path(root).expanduser() / name
    return Place(folder, str(folder)) if folder.is_dir() else None


def _fetch(
    repo: str,
    kind: Literal["dataset", "model"],
    revision: str,
    patterns: Iterable[str],
    context: LoadContext,
) -> Path:
    """Return the local snapshot of a repository, brought up to date if the hub is in reach.

    Raises:
        DataError: If the hub is out of reach and the files were not fetched earlier.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    download = partial(
        snapshot_download, repo, repo_type=kind, allow_patterns=list(patterns), dry_run=False
    )
    context.say(f"looking for {repo} on the Hugging Face hub")
    try:
        info = HfApi().repo_info(repo, repo_type=kind, revision=revision, timeout=CONNECT_TIMEOUT_S)
        return Path(download(revision=info.sha))
    except Exception as error:  # the hub's client raises its own, its transport's and OS errors
        try:
            local = download(revision=revision, local_files_only=True)
        except Exception:  # nothing usable was fetched earlier; the first reason is the true one
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise DataError(f"the Hugging Face hub did not provide {repo} ({reason})") from error
        context.say(f"the Hugging Face hub is out of reach; {repo} was fetched earlier")
        return Path(local)
