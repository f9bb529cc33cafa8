"""A local cache of the hours that are closed, in SQLite.

It holds nothing that the cluster did not: losing it, or a broken or older file, costs one more read of everything.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from kerf.values.usage import UsageRecord
from kerf.wire.errors import WireError
from kerf.wire.usage import day_text, parse_usage, render_usage
from kerfctl.errors import CliError

VERSION = 1
_TABLES = """
create table records (cluster text, name text, day text, body text, primary key (cluster, name)) without rowid;
create table days (cluster text, day text, primary key (cluster, day)) without rowid;
"""


class Cache:
    """Records by cluster and day. A day is complete once all of its hours are closed."""

    def __init__(self, path: Path, cluster: str) -> None:
        self._cluster = cluster
        self._path = path
        self._connection = self._open()

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    def complete(self, day: str) -> bool:
        """Whether the cluster need not be asked for a day."""
        found = self._connection.execute(
            "select 1 from days where cluster = ? and day = ?", (self._cluster, day)
        ).fetchone()
        return found is not None

    def records(self, day: str) -> Iterator[UsageRecord]:
        """The stored records of a day. What cannot be read is left out."""
        rows = self._connection.execute(
            "select body from records where cluster = ? and day = ? order by name", (self._cluster, day)
        )
        for (body,) in rows:
            with contextlib.suppress(WireError, ValueError):
                yield parse_usage(json.loads(body))

    def put(self, day: str, records: Iterable[UsageRecord]) -> None:
        """Keep a day whose hours are all closed."""
        rows = [
            (self._cluster, record.name, day_text(record.hour_ms), json.dumps(render_usage(record)))
            for record in records
        ]
        with self._connection:
            self._connection.execute("delete from records where cluster = ? and day = ?", (self._cluster, day))
            self._connection.executemany("insert or replace into records values (?, ?, ?, ?)", rows)
            self._connection.execute("insert or replace into days values (?, ?)", (self._cluster, day))

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, timeout=10)
            try:
                (version,) = connection.execute("pragma user_version").fetchone()
                if version == VERSION:
                    connection.execute("select count(*) from records, days limit 1").fetchone()
                    return connection
            except sqlite3.DatabaseError:
                pass  # no database, or a broken one: it is made again
            connection.close()
            self._path.unlink(missing_ok=True)
            return self._made()
        except (OSError, sqlite3.Error) as error:
            raise CliError(f"--cache {self._path}: {error}; name a file that can be written, or --no-cache") from error

    def _made(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=10)
        connection.executescript(_TABLES)
        connection.execute(f"pragma user_version = {VERSION}")
        connection.commit()
        return connection
