"""What a bundle says: its runs, and their configurations as they can be read in another place."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research_eval.errors import ConfigError, ResearchEvalError, StoreError
from research_eval.files import expanded, is_there, replace_file
from research_eval.records import Artifact, RunRecord, RunStatus
from research_eval.registry import plugin_reference
from research_eval.store import Store
from research_eval.store.bundle import UNPACKING, check_bundle
from research_eval.store.importing import import_bundle

RECORDED = "recorded.db"
_OWNER = "bundle.sha256"
_COMPLETE = "complete"
"""Stands behind the sha256 once all of the bundle is taken in."""
_TRAINED = ("json", "optuna_trial")
_FOUND_BY_PATH = ("path", "tokenizer")
"""Parameters of data sets that may name a file or a folder of one machine."""


@dataclass(frozen=True, slots=True)
class Original:
    """A recorded run that can be carried out again.

    Attributes:
        record: What the bundle says of it.
        config_json: Its configuration without the seed; plug-ins are named by the files in
            `base_dir`, and data that lies here by where it lies.
        base_dir: Folder that relative paths start from; runs of the same configuration share one.
        plugins: Source files that the configuration names.
    """

    record: RunRecord
    config_json: str
    base_dir: Path
    plugins: tuple[Path, ...]

    @property
    def group(self) -> tuple[str | None, ...]:
        """What is the same for runs that differ only in their seed."""
        return (self.record.config_hash, self.record.code_hash, self.record.data_hash)

    @property
    def threads(self) -> int | None:
        """CPU threads that it ran with; None if that is not recorded."""
        asked = threads_of(self.config_json)
        recorded: int | None = json.loads(self.record.env_details_json).get("threads")
        return asked or recorded


def threads_of(config_json: str) -> int | None:
    """Return the CPU threads that a configuration asks for; None if it leaves them open."""
    asked: int | None = json.loads(config_json)["training_params"].get("num_threads")
    return asked


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle, taken apart.

    Attributes:
        path: The zip file.
        sha256: Its fingerprint.
        is_anonymous: Whether names were taken out of it, perhaps also out of plug-ins.
        originals: The runs that can be carried out again, in the order of recording.
        left_out: How many others there are, by what they are.
    """

    path: Path
    sha256: str
    is_anonymous: bool
    originals: tuple[Original, ...]
    left_out: Mapping[str, int]


def open_bundle(path: Path, folder: Path) -> Bundle:
    """Check a bundle, file by file, and take it apart.

    Args:
        path: The bundle.
        folder: Of this bundle alone; made if need be. A second call finds everything there.

    Raises:
        ConfigError: If the folder holds another bundle.
        StoreError: If it is no bundle, was changed since it was written, or lacks the source of a
            plug-in that a run needs.
    """
    manifest = check_bundle(path)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    with _claimed(folder, sha256, path), Store.open(folder / RECORDED, create=True) as store:
        import_bundle(store, path, as_new=False)
        records = sorted(store.runs(), key=lambda record: record.id)
        is_original = {record.experiment_id: _can_run(record) for record in records}
        chosen = [record for record in records if is_original[record.experiment_id]]
        originals = _originals(store, chosen, path)
    others = Counter(_kind(r) for r in records if not is_original[r.experiment_id])
    return Bundle(path, sha256, bool(manifest.get("anonymous")), originals, others)


@contextmanager
def _claimed(folder: Path, sha256: str, path: Path) -> Iterator[None]:
    """Make the folder, or find that it is of the same bundle; a bad bundle leaves it as it was."""
    owner = folder / _OWNER
    was_there = folder.exists()
    is_new = not owner.exists()
    told = [] if is_new else owner.read_text().split()
    if not is_new and told[:1] != [sha256]:
        raise ConfigError(
            f"{folder} holds what was made of another bundle than {path}; name another folder "
            "with --output"
        )
    if is_new and was_there and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty; name a new folder with --output")
    if _COMPLETE not in told:
        _remove_half(folder)
        replace_file(owner, f"{sha256}\n")
    try:
        yield
    except ResearchEvalError:
        if is_new:
            shutil.rmtree(folder)
            folder.mkdir() if was_there else None
        raise
    if _COMPLETE not in told:
        replace_file(owner, f"{sha256} {_COMPLETE}\n")


def _remove_half(folder: Path) -> None:
    """Remove what a killed process has taken in; all of it is in the bundle."""
    for each in [*folder.glob(f"{RECORDED}*"), *folder.glob(f"{UNPACKING}*")]:
        shutil.rmtree(each) if each.is_dir() else each.unlink()


def _can_run(record: RunRecord) -> bool:
    return (
        record.run_type in _TRAINED
        and record.config_hash is not None
        and record.status is RunStatus.COMPLETED
    )


def _kind(record: RunRecord) -> str:
    """Return what a run is that cannot be carried out again, in a word or two."""
    return {"evaluation": "evaluation", "track": "tracked script", "import": "imported run"}.get(
        record.run_type, f"run that is {record.status}"
    )


def _originals(store: Store, records: Sequence[RunRecord], path: Path) -> tuple[Original, ...]:
    found = []
    folders: dict[tuple[str, ...], Path] = {}
    for record in records:
        kept = [a for a in store.artifacts(record.experiment_id) if a.kind == "plugin"]
        own = store.artifact_dir / record.experiment_id
        key = tuple(sorted(f"{Path(each.path).name} {each.sha256}" for each in kept))
        base_dir = folders.setdefault(key, own) if key else store.artifact_dir
        tree = json.loads(record.full_config_json) | {"seed": 0}
        names = _name_plugins(tree, [Path(each.path).name for each in kept], record, path)
        _find_data(tree)
        _check_sources(kept, store.artifact_dir)
        plugins = tuple(base_dir / name for name in names)
        found.append(Original(record, json.dumps(tree), base_dir, plugins))
    return tuple(found)


def _name_plugins(
    tree: dict[str, Any], carried: Sequence[str], record: RunRecord, path: Path
) -> list[str]:
    """Let a configuration name the plug-ins that travel with it; nothing else is ever loaded."""
    names = []
    for section in (tree, tree["model_params"], tree["dataset_params"]):
        for field, value in section.items():
            if not isinstance(value, str) or ".py:" not in value:
                continue
            reference = plugin_reference(value.replace("\\", "/"), Path("/"))
            if reference is None:
                continue
            if reference.file.name not in carried:
                raise StoreError(
                    f"{path} does not carry {reference.file.name}, which {field} of run "
                    f"{record.experiment_id} names; export the run anew"
                )
            section[field] = f"./{reference.file.name}:{reference.attribute}"
            names.append(reference.file.name)
    return names


def _find_data(tree: dict[str, Any]) -> None:
    """Name data by where it lies here: as recorded, or by its name in the working folder."""
    section = tree["dataset_params"]
    for field in _FOUND_BY_PATH:
        value = section.get(field)
        if isinstance(value, str):
            asked = expanded(value)
            here = (Path.cwd() / asked, Path.cwd() / asked.name)
            section[field] = next((str(place) for place in here if is_there(place)), value)


def _check_sources(kept: Sequence[Artifact], folder: Path) -> None:
    for each in kept:
        file = folder / each.path
        if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != each.sha256:
            raise StoreError(
                f"{file} is not what came out of the bundle; remove its folder {folder.parent} and "
                "begin again"
            )


def choose(bundle: Bundle, only: Sequence[str], seeds: int | None) -> list[Original]:
    """Return the runs that are wanted.

    Args:
        bundle: Of which.
        only: Ids or beginnings of ids; empty for all.
        seeds: At most so many runs of each configuration, in the order of their seeds; None for
            all.

    Raises:
        ConfigError: If an id means no run, or several.
    """
    wanted = list(bundle.originals)
    if only:
        wanted = [found for name in only for found in [_named(bundle, name)]]
    if seeds is not None:
        by_group: dict[tuple[str | None, ...], list[Original]] = {}
        for each in sorted(wanted, key=lambda each: each.record.seed or 0):
            by_group.setdefault(each.group, []).append(each)
        kept = {e.record.experiment_id for group in by_group.values() for e in group[:seeds]}
        wanted = [each for each in wanted if each.record.experiment_id in kept]
    return list({each.record.experiment_id: each for each in wanted}.values())


def _named(bundle: Bundle, name: str) -> Original:
    found = [e for e in bundle.originals if e.record.experiment_id.startswith(name)]
    exact = [e for e in found if e.record.experiment_id == name]
    if len(exact or found) == 1:
        return (exact or found)[0]
    ids = [each.record.experiment_id for each in (found or bundle.originals)]
    told = f"'{name}' is the beginning of several" if found else f"there is no run '{name}'"
    raise ConfigError(f"{told} that can be run again in {bundle.path}; there are {', '.join(ids)}")


def require_trust(originals: Sequence[Original], bundle: Bundle, *, is_trusted: bool) -> None:
    """Check that code out of a bundle may be run, before any of it is.

    Raises:
        ConfigError: If a run needs some and nobody said so.
    """
    files = sorted({file for each in originals for file in each.plugins})
    if files and not is_trusted:
        raise ConfigError(
            f"{bundle.path} brings programs that would run with your rights: "
            f"{', '.join(map(str, files))}. Read them; --trust runs them"
        )
