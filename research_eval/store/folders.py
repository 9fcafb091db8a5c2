"""The folders of files beside a database, one for each run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from research_eval.errors import StoreError


@contextmanager
def placed(folders: Mapping[Path, Path], bring: Callable[[Path, Path], object]) -> Iterator[None]:
    """Have folders in new places for as long as nothing goes wrong; else remove them again.

    Args:
        folders: Where each is, and where it shall be.
        bring: Copies or moves one to a place that does not exist yet.

    Raises:
        StoreError: If something is in the way, or a file cannot be read or written.
    """
    made = []
    try:
        for source, place in folders.items():
            if place.exists():
                raise StoreError(
                    f"{place} is in the way: no run that is known here owns it; move it away"
                )
            place.parent.mkdir(parents=True, exist_ok=True)
            made.append(place)
            bring(source, place)
        yield
    except BaseException as error:
        for place in made:
            shutil.rmtree(place, ignore_errors=True)
        if isinstance(error, shutil.Error | OSError):
            raise StoreError(f"files cannot be copied: {_first_line(error)}") from error
        raise


def files_in(folder: Path) -> list[Path]:
    """Return every file below a folder; none if there is no folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def total_size(files: list[Path]) -> int:
    """Return the size of files in bytes."""
    return sum(file.lstat().st_size for file in files)


def _first_line(error: OSError) -> str:
    if isinstance(error, shutil.Error) and error.args:  # its argument lists every file
        _source, _target, reason = error.args[0][0]
        return str(reason)
    return str(error)
