"""How a table of runs is opened, and what stays open."""

import multiprocessing
import os
import pickle
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from merging.core.errors import RunError
from merging.runs.database import Database


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[sqlite3.Connection]]:
    """The connections that were opened."""
    found: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def counted(*given: Any, **named: Any) -> sqlite3.Connection:
        found.append(connect(*given, **named))
        return found[-1]

    monkeypatch.setattr(sqlite3, "connect", counted)
    yield found
    assert not any(map(is_open, found))


def is_open(connection: sqlite3.Connection) -> bool:
    with suppress(sqlite3.ProgrammingError):
        connection.execute("select 1")
        return True
    return False


def write(database: Database, key: str) -> None:
    with database.connect() as connection:
        connection.execute("insert into accuracies values (?, '')", (key,))


def written(database: Database) -> list[str]:
    with database.connect() as connection:
        return [str(key) for (key,) in connection.execute("select key from accuracies order by key")]


def test_a_connection_is_kept_as_long_as_there_is_more_to_come(
    tmp_path: Path, opened: list[sqlite3.Connection]
) -> None:
    database = Database(tmp_path)
    opened.clear()
    write(database, "a")
    assert not is_open(opened[0])
    with database.kept_open():
        write(database, "b")
        with database.kept_open():
            write(database, "c")
        assert written(database) == ["a", "b", "c"]
        assert len(opened) == 2 and is_open(opened[1])
        with database.connect(), database.connect():
            assert len(opened) == 3
        assert sum(map(is_open, opened)) == 1
    assert not any(map(is_open, opened))


def test_nobody_is_kept_from_changing_the_journal_afterwards(tmp_path: Path) -> None:
    database = Database(tmp_path)
    with database.kept_open():
        write(database, "a")
    other = sqlite3.connect(database.path)
    assert other.execute("pragma journal_mode = delete").fetchone() == ("delete",)
    other.close()


def test_what_failed_is_taken_back_and_the_next_piece_of_work_has_a_connection_of_its_own(
    tmp_path: Path, opened: list[sqlite3.Connection]
) -> None:
    database = Database(tmp_path)
    opened.clear()

    def lose() -> None:
        with database.writing() as connection:
            connection.execute("insert into accuracies values ('lost', '')")
            raise KeyError

    with database.kept_open():
        with pytest.raises(KeyError):
            lose()
        with database.connect() as connection:
            connection.execute("begin")
            connection.execute("insert into accuracies values ('never committed', '')")
        assert written(database) == []
        with pytest.raises(RunError, match="no such table"), database.connect() as connection:
            connection.execute("select * from elsewhere")
        assert not any(map(is_open, opened))
        assert written(database) == []


@pytest.mark.parametrize("change", ["replaced", "gone", "damaged"])
def test_another_file_in_its_place_is_noticed(change: str, tmp_path: Path, opened: list[sqlite3.Connection]) -> None:
    database = Database(tmp_path / "one")
    write(database, "old")
    write(Database(tmp_path / "other"), "new")
    with database.kept_open():
        assert written(database) == ["old"]
        if change == "damaged":
            database.path.write_bytes(b"this is no database" * 1000)
            with pytest.raises(RunError, match="can't be used"):
                written(database)
            return
        database.path.unlink()
        if change == "replaced":
            os.rename(tmp_path / "other" / "runs.sqlite", database.path)
            assert written(database) == ["new"]
        else:
            with pytest.raises(RunError, match=r"lacks what was in it .*no such table.*; put it back"):
                written(database)


def test_a_table_that_is_sent_to_another_process_is_opened_there(tmp_path: Path) -> None:
    database = Database(tmp_path)
    with database.kept_open():
        write(database, "a")
        sent = pickle.loads(pickle.dumps(database))
        write(sent, "b")
        assert sent._kept.connection is None and written(database) == ["a", "b"]


def test_every_thread_has_its_own(tmp_path: Path) -> None:
    database = Database(tmp_path)
    found: list[list[str]] = []
    with database.kept_open():
        write(database, "a")
        thread = threading.Thread(target=lambda: found.append(written(database)))
        thread.start()
        thread.join()
        assert found == [["a"]] and written(database) == ["a"]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes are not copied here")
def test_a_copy_of_the_process_neither_uses_nor_closes_it(tmp_path: Path) -> None:
    database = Database(tmp_path)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    def copied() -> None:
        parents = database._kept.connection
        assert parents is not None
        write(database, "of the copy")
        answers.put((written(database), database._kept.connection is parents, is_open(parents)))

    with database.kept_open():
        write(database, "a")
        kept = database._kept.connection
        assert kept is not None
        process = context.Process(target=copied)
        process.start()
        assert answers.get(timeout=60) == (["a", "of the copy"], False, True)
        process.join()
        assert process.exitcode == 0
        write(database, "b")
        assert is_open(kept) and written(database) == ["a", "b", "of the copy"]
