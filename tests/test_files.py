"""Files that a reader never sees half of, and folders that are tried before the work."""

import pytest

from research_eval.errors import StoreError
from research_eval.files import require_writable, safe_name


@pytest.mark.parametrize("name", ["file", "file/out/deep"])
def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(tmp_path, name):
    (tmp_path / "file").write_text("kept")
    told = f"the folder {tmp_path / name} cannot be written: .*another one with --output-dir"
    with pytest.raises(StoreError, match=told):
        require_writable(tmp_path / name)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("name", [".", "deep/down"])
def test_a_folder_that_can_be_written_is_as_before(tmp_path, name):
    before = {*tmp_path.iterdir()}
    require_writable(tmp_path / name)
    assert {*tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "safe"),
    [("a b", "a_b"), ("../a/b", ".._a_b"), ("run-1.5", "run-1.5")],
)
def test_a_name_of_a_file_leads_nowhere_else(name, safe):
    assert safe_name(name) == safe
