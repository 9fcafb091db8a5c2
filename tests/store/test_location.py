"""Where the store is when nobody says so."""

import pytest

from research_eval.errors import StoreError
from research_eval.store.location import locate


@pytest.fixture
def folders(tmp_path, monkeypatch):
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    return inner.parent, inner


def test_the_nearest_store_upward_is_taken(folders):
    outer, inner = folders
    (outer / "experiment_results.db").touch()
    assert locate(create=False) == locate(create=True) == outer / "experiment_results.db"
    (inner / "experiment_results.db").touch()
    assert locate(create=False) == inner / "experiment_results.db"


def test_a_folder_of_that_name_is_no_store(folders):
    outer, inner = folders
    (inner / "experiment_results.db").mkdir()
    (outer / "experiment_results.db").touch()
    assert locate(create=False) == outer / "experiment_results.db"


def test_writers_begin_one_here_and_readers_are_told_there_is_none(folders):
    _, inner = folders
    assert locate(create=True) == inner / "experiment_results.db"
    with pytest.raises(StoreError, match=r"there is no experiment_results\.db in .*inner or any"):
        locate(create=False)
    assert list(inner.iterdir()) == []


def test_the_environment_decides(folders, monkeypatch):
    outer, _ = folders
    (outer / "experiment_results.db").touch()
    monkeypatch.setenv("RESEARCH_EVAL_DB", "postgresql://host/runs")
    assert locate(create=False) == "postgresql://host/runs"
    monkeypatch.setenv("RESEARCH_EVAL_DB", "")
    assert locate(create=False) == outer / "experiment_results.db"
