"""What only a server can do to a store: be away, be busy, be somebody else's."""

import psycopg
import pytest
from sqlalchemy import text

from research_eval.errors import StoreError
from research_eval.store import Store, creation
from research_eval.store.engine import BusyError, parse_address
from research_eval.testing.runs import new_run, record


@pytest.fixture
def url(postgres):
    return postgres.new_database()


def libpq(url):
    """The URL as psycopg takes it."""
    return url.replace("postgresql+psycopg", "postgresql")


def test_a_server_that_is_away_is_one_line_and_comes_back(postgres, url):
    with Store.open(url, create=True) as store:
        record(store, "a", {"m": 1.0})
        postgres.stop("immediate")
        try:
            for ask in (lambda: store.run("a"), lambda: Store.open(url)):
                with pytest.raises(BusyError, match="cannot be reached") as caught:
                    ask()
                assert "\n" not in str(caught.value)
        finally:
            postgres.start()
        assert store.run("a").value("m") == 1.0


def test_a_database_that_is_not_there_is_one_line(url):
    with pytest.raises(StoreError, match=r"/nobody.*does not exist"):
        Store.open(f"postgresql://postgres@/nobody?{url.partition('?')[2]}")


def test_a_user_without_rights_is_told_so(url):
    Store.open(url, create=True).close()
    with psycopg.connect(libpq(url), autocommit=True) as server:
        server.execute("CREATE ROLE reader LOGIN")
    try:
        with pytest.raises(StoreError, match="permission denied"):
            Store.open(url.replace("postgres@", "reader@"), mode="ro")
    finally:
        with psycopg.connect(libpq(url), autocommit=True) as server:
            server.execute("DROP ROLE reader")


def test_a_lock_that_another_holds_is_waited_for_no_longer_than_asked(url):
    with Store.open(url, create=True, busy_timeout=0.05) as store:
        store.start(new_run()).close()
        with psycopg.connect(libpq(url)) as other:
            other.execute("LOCK TABLE experiments IN EXCLUSIVE MODE")
            with pytest.raises(BusyError, match="is locked by another program"):
                store.start(new_run("b"))
            assert store.run("run-1")  # readers are not locked out
        assert len(store.runs()) == 1


def test_queries_of_one_reading_see_one_state(url):
    with Store.open(url, create=True) as store, store._reading() as connection:
        count = text("SELECT count(*) FROM experiments")
        assert connection.scalar(count) == 0
        record(store, "a", {})
        assert connection.scalar(count) == 0


def test_of_several_that_start_at_once_one_makes_the_tables(url):
    with psycopg.connect(libpq(url)) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [creation._CREATION])
        with pytest.raises(BusyError, match="is locked by another program"):
            Store.open(url, create=True, busy_timeout=0.05)
    Store.open(url, create=True).close()
    Store.open(url, create=True).close()


def test_no_password_is_shown():
    shown = str(parse_address("postgresql://u:secret@h/d?sslpassword=secret&password=secret"))
    assert "secret" not in shown
    assert shown.startswith("postgresql://u:***@h/d")
