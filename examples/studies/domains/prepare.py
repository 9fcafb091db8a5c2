"""Prepare the texts of a few domains, with the cues that give a domain away and without them.

    python prepare.py code=DATA/code math=DATA/math prose=DATA/prose --leave-out codexglue-csharp

A source is whatever `datasets.load_dataset` takes: a folder, or a name on the hub, with the
splits train and test and the column `text`. Written are three versions of the same rows, each a
folder with train.jsonl, validation.jsonl and test.jsonl (columns text, domain):

as-is     the rows as they come.
stripped  markers, case, line breaks, spacing and the ends of texts are gone.
letters   so are digits and punctuation.

In every split all domains have equally many bytes.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

import datasets

PIECE = 127
"""Bytes of a stripped text: with the end-of-text token before it, a row of 128 tokens."""

VALIDATION_SHARE = 0.1
"""Share of the training rows that becomes the validation split."""

MARKERS = re.compile(r"<unk>|<<[^<>]*>>|^\s*(?:#|assert\b).*", re.MULTILINE)
"""WikiText's unknown words; GSM8K's calculator and its answer; MBPP's task and assertions."""

TYPOGRAPHY = str.maketrans("‘’“”–—", "''\"\"--")  # noqa: RUF001


def stripped(text: str) -> str:
    """Return a text in lower-case ASCII on one line, without markers and camel case.

    No space stands beside punctuation: the ways in which the sources were tokenised differ there.
    """
    text = MARKERS.sub("", text.translate(TYPOGRAPHY))
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    text = re.sub(r"\s*([^\w\s]|_)\s*", r"\1", text)
    return " ".join(text.split())


def letters(text: str) -> str:
    """Return the words of a text: runs of a-z with one space between."""
    return " ".join(re.findall(r"[a-z]+", stripped(text)))


VERSIONS: dict[str, Callable[[str], str] | None] = {
    "as-is": None,
    "stripped": stripped,
    "letters": letters,
}
"""What cleans all texts of a domain, joined; None leaves them as they are."""

Domains = dict[str, dict[str, list[str]]]
"""Texts by domain and split."""


def first(texts: Iterable[str], size: int) -> list[str]:
    """Return texts from the first on, the last one cut so that they have `size` bytes."""
    taken = []
    for text in texts:
        if size <= 0:
            break
        taken.append(text.encode()[:size].decode(errors="ignore"))
        size -= len(text.encode())
    return taken


def pieces(text: str) -> list[str]:
    """Return the pieces of an ASCII text, without a shorter one at its end."""
    ends = range(PIECE, len(text) + 1, PIECE)
    return [text[end - PIECE : end] for end in ends]


def read(source: str, left_out: set[str], seed: int) -> dict[str, list[str]]:
    """Return the texts of each split in random order; no two of all have the same words."""
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:  # the library would keep what it read
        found = datasets.load_dataset(source, cache_dir=folder)
        given = {
            name: [row["text"] for row in found[name] if row.get("source") not in left_out]
            for name in ("test", "train")
        }
    seen: set[str] = set()
    texts: dict[str, list[str]] = {}
    for name, rows in given.items():  # test first: what stands in both leaves train
        by_words = {letters(text): text for text in rows}
        texts[name] = [text for words, text in by_words.items() if words and words not in seen]
        seen |= by_words.keys()
        random.Random(seed).shuffle(texts[name])
    count = round(VALIDATION_SHARE * len(texts["train"]))
    texts["validation"], texts["train"] = texts["train"][:count], texts["train"][count:]
    return texts


def rows_of(domains: Domains, version: str, split: str, size: int) -> list[str]:
    """Return the lines of a file: of each domain as much text as has `size` bytes.

    Raises:
        SystemExit: If a domain has less.
    """
    clean = VERSIONS[version]
    lines = []
    for domain, texts in domains.items():
        there = texts[split] if clean is None else [clean("\n".join(texts[split]))]
        available = sum(len(text.encode()) for text in there)
        if available < size:
            sys.exit(
                f"error: {domain} has {available:,} bytes of {split}, {version}, and {size:,} "
                f"were asked for; lower --{split}-bytes"
            )
        taken = first(there, size)
        rows = taken if clean is None else pieces(taken[0])
        lines += [json.dumps({"text": text, "domain": domain}) for text in rows]
    return lines


def main() -> None:
    """Read all domains, then write all versions of all splits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("domains", nargs="+", metavar="DOMAIN=SOURCE")
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder to write to")
    parser.add_argument(
        "--leave-out",
        action="append",
        default=[],
        metavar="NAME",
        help="leave out rows whose column source says this",
    )
    parser.add_argument("--train-bytes", type=int, default=400_000, help="of each domain")
    parser.add_argument("--validation-bytes", type=int, default=15_000, help="of each domain")
    parser.add_argument("--test-bytes", type=int, default=30_000, help="of each domain")
    parser.add_argument("--seed", type=int, default=0, help="of the order of rows")
    given = parser.parse_args()
    sources = dict(each.split("=", 1) for each in given.domains if "=" in each)
    if len(sources) < len(given.domains):
        parser.error("each domain is given once, as DOMAIN=SOURCE")
    domains = {
        name: read(source, set(given.leave_out), given.seed) for name, source in sources.items()
    }
    sizes = {split: getattr(given, f"{split}_bytes") for split in ("train", "validation", "test")}
    files = {
        given.out / version / f"{split}.jsonl": rows_of(domains, version, split, size)
        for version in VERSIONS
        for split, size in sizes.items()
    }
    for path, lines in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        print(f"{path}: {len(lines):,} texts of {', '.join(domains)}")


if __name__ == "__main__":
    main()
