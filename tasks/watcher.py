"""Looks at one database session from inside its transactions: which locks it holds, how many rows it read and wrote meanwhile."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

# More rows than a small machine reads or writes in the time that users do not notice.
MOST_ROWS_UNDER_LOCK = 10_000
MOST_ROWS_IN_TRANSACTION = 10_000
# At about a millisecond for each round trip, a second in which others wait for the first of these rows.
MOST_WRITES_IN_TRANSACTION = 1_000

# Modes that keep writers out.
_STRONG = {
    "ShareLock": "SHARE",
    "ShareRowExclusiveLock": "SHARE ROW EXCLUSIVE",
    "ExclusiveLock": "EXCLUSIVE",
    "AccessExclusiveLock": "ACCESS EXCLUSIVE",
}
_ORDER = list(_STRONG)
# Nobody else writes rows of a materialized view.
_WORK = """
SELECT relid, coalesce(seq_tup_read, 0), CASE relkind WHEN 'm' THEN 0 ELSE n_tup_ins + n_tup_upd + n_tup_del END
FROM pg_stat_xact_user_tables JOIN pg_class ON pg_class.oid = relid
"""
_LOCKS = "SELECT relation, mode FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation' AND granted"


@dataclass(frozen=True)
class _Work:
    read: int = 0
    written: int = 0


class Session(Protocol):
    """The connection that is watched, whichever its driver."""

    def execute(self, question: str, /) -> Any: ...


@dataclass
class Watcher:
    """Rows are counted, not time measured, so that a busy machine gives the same answer. `names` are the tables that others use;
    `session` gives the connection that is watched.
    """

    session: Callable[[], Session]
    names: Mapping[int, str]
    # By what they are about, since the numbers of one transaction only grow.
    objections: dict[str, str] = field(default_factory=dict)
    # Rows of each table that were read or written between the last two looks.
    touched: dict[int, int] = field(default_factory=dict)
    _begun: dict[int, _Work] = field(default_factory=dict)
    _last: dict[int, _Work] = field(default_factory=dict)
    # Relation to its strongest lock and to what had been read of it when that was taken.
    _locked: dict[int, str] = field(default_factory=dict)
    _read_before_lock: dict[int, int] = field(default_factory=dict)

    def begin(self) -> None:
        """At the start of a transaction: counters of earlier ones may not have been handed over yet."""
        self._begun = self._last = self._work()
        self._locked, self._read_before_lock = {}, {}

    def look(self) -> None:
        """After a statement, inside its transaction."""
        for relation, mode in self._asked(_LOCKS):
            if relation in self.names and mode in _STRONG and _rank(mode) > _rank(self._locked.get(relation)):
                self._read_before_lock.setdefault(relation, self._last.get(relation, _Work()).read)
                self._locked[relation] = mode
        before, self._last = self._last, self._work()
        self.touched = {}
        for relation, work in self._last.items():
            was = before.get(relation, _Work())
            if relation in self.names and (rows := work.read + work.written - was.read - was.written) > 0:
                self.touched[relation] = rows
            if relation in self.names:
                self._weigh(relation, work)

    def held(self) -> dict[int, str]:
        """The tables that writers are kept out of, with the lock, weakest first."""
        return {relation: _STRONG[mode] for relation, mode in sorted(self._locked.items(), key=lambda one: _rank(one[1]))}

    def object(self, sentence: str, *, about: str = "") -> None:
        self.objections[about or sentence] = sentence

    def _weigh(self, relation: int, work: _Work) -> None:
        name = self.names[relation]
        read = work.read - self._read_before_lock.get(relation, work.read)
        written = work.written - self._begun.get(relation, _Work()).written
        if read > MOST_ROWS_UNDER_LOCK:
            self.object(f"reads {read:,} rows of {name} while it holds {_STRONG[self._locked[relation]]}", about=f"read {relation}")
        if written > MOST_ROWS_IN_TRANSACTION:
            self.object(f"writes {written:,} rows of {name} in one transaction and holds each until its end", about=f"written {relation}")

    def _work(self) -> dict[int, _Work]:
        return {oid: _Work(read, written) for oid, read, written in self._asked(_WORK)}

    def _asked(self, question: str) -> Sequence[Any]:
        rows: Sequence[Any] = self.session().execute(question).fetchall()
        return rows


def _rank(mode: str | None) -> int:
    return _ORDER.index(mode) if mode is not None else -1
