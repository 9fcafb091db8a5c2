"""SQLite and PostgreSQL keep what every store promises."""

import pytest

from research_eval.testing.store import StoreContract


class TestStore(StoreContract):
    @pytest.fixture
    def store_url(self, database_url):
        return database_url
