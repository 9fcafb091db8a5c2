"""SQLite keeps what every store promises."""

import pytest

from research_eval.testing.store import StoreContract


class TestSQLite(StoreContract):
    @pytest.fixture
    def store_url(self, tmp_path):
        return tmp_path / "runs.db"
