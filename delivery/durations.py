"""How long a migration takes where it goes next: what was measured on a copy, scaled to the rows that are there.

Sources: `reference/reliability.md` 4.6. `seconds * rows there / rows on the copy`, told as a range, since the same statement took up to 3.4
times as long on a busy machine as on a quiet one. What is not known stays unknown and never becomes a number.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from delivery.migrations import read_operations
from delivery.old_version import OldVersion
from delivery.operations import Lock, MigrationWaiver, Operation, Safety, with_waivers
from delivery.schema import Schema
from delivery.sql import statements

RULE = "duration"
LEAST, MOST = 0.5, 3.0
# Readers who wait for longer than this notice; from then on a person has to answer for it.
LONGEST_STALL_SECONDS = 1.0
LONGEST_ONLINE_SECONDS = 600.0
# On fewer rows a statement's time is that of its round trip and says nothing of ten times as many.
LEAST_ROWS = 1_000
FURTHEST = 10.0
# A rewrite keeps the old file until it is committed and writes the new one to the log as well.
REWRITE_NEEDS = 2
_BUILDS = frozenset({"index", "unique", "primary", "reindex"})
_LOCKS = {one.label: one for one in Lock}


class Work(StrEnum):
    """What a statement does to the rows that are there: nothing, look at them, write them anew, or build an index of them."""

    METADATA = "metadata"
    SCAN = "scan"
    REWRITE = "rewrite"
    INDEX = "index"


@dataclass(frozen=True)
class Measured:
    """One statement on a copy. `rows` is how many its table had there, None when nobody knows; `touched` how many it read or wrote, None
    where that cannot be seen (outside a transaction); `table` is empty when it was none that others use.
    """

    revision: str
    sql: str
    seconds: float
    table: str
    rows: int | None
    touched: int | None
    lock: Lock
    work: Work


@dataclass(frozen=True)
class Size:
    """A table where the migration goes; None where the database cannot tell."""

    rows: int | None
    bytes: int | None


@dataclass(frozen=True)
class Estimate:
    """`likely` in seconds, None when unknown; `why` says then what is missing. Metadata does not depend on rows."""

    measured: Measured
    size: Size | None
    likely: float | None
    why: str = ""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Seconds; None when unknown."""
        return None if self.likely is None else (LEAST * self.likely, MOST * self.likely)

    @property
    def makes_readers_wait(self) -> bool:
        return self.measured.lock is Lock.ACCESS_EXCLUSIVE and self.measured.work is not Work.METADATA

    @property
    def is_long(self) -> bool:
        """Work under ACCESS EXCLUSIVE that users notice, or of which nobody knows whether they do."""
        return self.makes_readers_wait and (self.likely is None or self.likely > LONGEST_STALL_SECONDS)

    @property
    def warns(self) -> bool:
        """Nobody waits, and it takes so long that people had better know."""
        return not self.makes_readers_wait and self.likely is not None and self.likely > LONGEST_ONLINE_SECONDS

    @property
    def disk_bytes(self) -> int | None:
        """What a rewrite needs beside what is there; 0 for what rewrites nothing, None when unknown."""
        if self.measured.work is not Work.REWRITE:
            return 0
        return None if self.size is None or self.size.bytes is None else REWRITE_NEEDS * self.size.bytes

    def sentence(self) -> str:
        """`0.4 s to 2.4 s (index of 1,000,000 rows; 0.1 s with 125,000 on the copy)`, or `unknown: …`."""
        one = self.measured
        if self.likely is None or self.bounds is None:
            return f"unknown: {self.why}"
        if one.work is Work.METADATA:
            return f"{_range(*self.bounds)} (metadata, whatever the rows)"
        rows = f"{self.size.rows:,}" if self.size is not None and self.size.rows is not None else "unknown"
        return f"{_range(*self.bounds)} ({one.work} of {rows} rows; {_seconds(one.seconds)} with {one.rows:,} on the copy)"


def measured_in(told: object) -> tuple[Measured, ...]:
    """From a rehearsal's evidence. What does not read as a measurement is left out, and so nothing is concluded from it."""
    return tuple(one for part in told if (one := _one(part)) is not None) if isinstance(told, list | tuple) else ()


def estimates(measured: Iterable[Measured], sizes: Mapping[str, Size] | None) -> tuple[Estimate, ...]:
    """`sizes` of the database where it goes, by the names that the copy gave; None when that could not be asked."""
    return tuple(_estimate(one, None if sizes is None else sizes.get(one.table), asked=sizes is not None) for one in measured)


def total(found: Sequence[Estimate]) -> tuple[float, float] | None:
    """All of them one after another, in seconds; None as soon as one is unknown, or when there is none."""
    bounds = [one.bounds for one in found]
    known = [one for one in bounds if one is not None]
    return (sum(low for low, _ in known), sum(high for _, high in known)) if known and len(known) == len(bounds) else None


def total_sentence(found: Sequence[Estimate]) -> str:
    """What all statements take together, for the form; empty when nothing was measured."""
    if not found:
        return ""
    if (all_of_them := total(found)) is not None:
        return f"Its migrations take {_range(*all_of_them)} here, by a copy's measure."
    return f"How long its migrations take here is unknown: {next(one.why for one in found if one.likely is None)}."


def objections(found: Iterable[Estimate], waivers: Iterable[MigrationWaiver], *, today: date) -> tuple[Operation, ...]:
    """What would make readers wait for too long, each with the waiver that covers it today."""
    return with_waivers([_objection(one) for one in found if one.is_long], waivers, today=today)


def _objection(one: Estimate) -> Operation:
    return Operation(
        statement=0,
        sql=one.measured.sql,
        rule=RULE,
        safety=Safety.UNSAFE,
        lock=one.measured.lock,
        table=one.measured.table,
        reason=f"everybody waits for it, {one.sentence()}",
        alternative="in steps that keep nobody out: NOT VALID and VALIDATE, CONCURRENTLY, a new column filled in batches.",
    )


def _estimate(one: Measured, size: Size | None, *, asked: bool) -> Estimate:
    if one.work is Work.METADATA:
        return Estimate(one, size, one.seconds)
    there = size.rows if size is not None else None
    if why := _missing(one, there, asked=asked):
        return Estimate(one, size, None, why)
    return Estimate(one, size, one.seconds * (max(there, 1) / one.rows if there is not None and one.rows else 1.0))


def _missing(one: Measured, there: int | None, *, asked: bool) -> str:
    """What would have to be known; empty when everything is."""
    if not asked:
        return "the database could not be asked for its rows"
    if not one.table:
        return "it is not known which table it works on"
    if there is None:
        return f"nobody knows how many rows {one.table} has there; ANALYZE tells"
    if one.rows is None:
        return f"nobody knows how many rows {one.table} had on the copy"
    if one.rows < LEAST_ROWS and there > FURTHEST * one.rows:
        return f"{one.rows:,} rows of {one.table} on the copy say nothing of {there:,}"
    return ""


def _one(told: object) -> Measured | None:
    if not isinstance(told, Mapping):
        return None
    seconds, sql, rows, touched = (told.get(key) for key in ("seconds", "sql", "rows", "touched"))
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not isinstance(sql, str):
        return None
    if not (math.isfinite(seconds) and seconds >= 0):
        return None
    touched, rows = _count(touched), _count(rows)
    # Outside a transaction nobody can look at locks; they are read from the text.
    lock = max((one.lock for one in _read(sql)), default=Lock.NONE) if touched is None else _LOCKS.get(str(told.get("lock")), Lock.NONE)
    return Measured(
        revision=str(told.get("revision")),
        sql=sql,
        seconds=float(seconds),
        table=str(told.get("table") or ""),
        rows=rows,
        touched=touched,
        lock=lock,
        work=_work(sql, touched, rows, rewrites=told.get("rewrites") is True),
    )


def _read(sql: str) -> tuple[Operation, ...]:
    return read_operations(sql, schema=Schema.read(""), old_version=OldVersion.read(None))


def _work(sql: str, touched: int | None, rows: int | None, *, rewrites: bool) -> Work:
    if rewrites:
        return Work.REWRITE
    # In an empty table there was nothing to touch: whether there would have been is asked of the text.
    if touched == 0 and not (rows == 0 and any(one.safety is not Safety.SAFE for one in _read(sql))):
        return Work.METADATA
    words = next((one.words for one in statements(sql)), ())
    return Work.INDEX if _BUILDS & set(words) else Work.SCAN


def _count(told: object) -> int | None:
    return told if isinstance(told, int) and not isinstance(told, bool) and told >= 0 else None


def _range(low: float, high: float) -> str:
    return f"{_seconds(low)} to {_seconds(high)}"


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{max(1, round(1000 * seconds))} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
