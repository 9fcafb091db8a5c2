"""Small files of every kind that always exist, and the real data where there is any."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from research_eval.registry import DATASETS_MAP
from research_eval.spec import LoadContext

WORDS = ("red", "blue", "green", "stone", "river", "cloud", "night", "house")


def sentence(number: int) -> str:
    """Return a different short text for each number."""
    digits = [WORDS[int(digit)] for digit in oct(number + 512)[2:]]
    return f"the {' '.join(digits)} of number {number}"


@pytest.fixture
def rows() -> list[dict]:
    """Return 60 labelled rows: two classes of 40 and 20, three domains, ten authors."""
    return [
        {
            "text": sentence(number),
            "label": "pos" if number % 3 == 0 else "neg",
            "source": ("a", "b", "c")[number % 3],
            "author": number // 6,
        }
        for number in range(60)
    ]


@pytest.fixture
def write(tmp_path):
    """Return a function that writes rows to a file of the kind that its name says."""

    def write_rows(name: str, rows: list[dict]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        match path.suffix:
            case ".jsonl":
                path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            case ".json":
                path.write_text(json.dumps(rows))
            case ".csv" | ".tsv":
                dialect = "excel" if path.suffix == ".csv" else "excel-tab"
                with path.open("w", newline="") as file:
                    table = csv.DictWriter(file, list(rows[0]), dialect=dialect)
                    table.writeheader()
                    table.writerows(rows)
            case ".parquet":
                pq.write_table(pa.Table.from_pylist(rows), path)
        return path

    return write_rows


@pytest.fixture
def said() -> list[str]:
    """Return the lines of progress of the data sets that `load` loads."""
    return []


@pytest.fixture
def context(tmp_path, said) -> LoadContext:
    return LoadContext(tmp_path, tmp_path / "cache", said.append)


@pytest.fixture
def load(context):
    """Return a function that loads a registered data set with some parameters."""

    def load_dataset(name: str, **params):
        spec = DATASETS_MAP[name]
        return spec.load(spec.params.model_validate(params), context)

    return load_dataset


@pytest.fixture(scope="class")
def data_mirror(shared_data):
    """Look for real data beside the checkout, or skip where there is none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESEARCH_EVAL_DATA", str(shared_data))
        yield shared_data
