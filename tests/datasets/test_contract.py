"""Every data set keeps every promise: generated ones, real ones where there are any, own files."""

import pytest

from research_eval.registry import DATASETS_MAP
from research_eval.spec import LoadContext
from research_eval.testing.dataset_checks import DatasetSubject
from research_eval.testing.datasets import DatasetContract

GENERATED = [name for name in DATASETS_MAP if DATASETS_MAP[name].dataset_type == "synthetic"]
PUBLISHED = [name for name in DATASETS_MAP if name not in (*GENERATED, "files")]


class TestGenerated(DatasetContract):
    @pytest.fixture(params=GENERATED)
    def spec(self, request):
        return DATASETS_MAP[request.param]


class TestGeneratedOtherwise(DatasetContract):
    CASES = (
        ("addition", {"task": "language_modeling"}),
        ("copying", {"contiguous": False, "seq_len": 40}),
        ("markov", {"order": 3, "vocab_size": 4}),
        ("modular_arithmetic", {"operation": "multiply", "train_fraction": 0.3}),
        ("parity", {"test_samples": 0, "seq_len": 32, "vocab_size": 2}),
    )

    @pytest.fixture(params=CASES, ids=lambda case: case[0])
    def subject(self, request, context):
        name, params = request.param
        return DatasetSubject.of(DATASETS_MAP[name], context, **params)


class TestPublished(DatasetContract):
    @pytest.fixture(scope="class", params=PUBLISHED)
    @classmethod
    def subject(cls, request, data_mirror, tmp_path_factory):
        if not (data_mirror / request.param).is_dir():
            pytest.skip(f"{request.param} is not in the folder of real data")
        folder = tmp_path_factory.mktemp(request.param)
        return DatasetSubject.of(DATASETS_MAP[request.param], LoadContext(folder, folder / "cache"))


class TestOwnFiles(DatasetContract):
    @pytest.fixture(params=["classification", "language_modeling"])
    def subject(self, request, context, write, rows):
        return DatasetSubject.of(
            DATASETS_MAP["files"],
            context,
            path=str(write("rows.jsonl", rows)),
            task=request.param,
            domain_field="source",
            group_field="author",
            test_fraction=0.2,
            validation_fraction=0.2,
        )
