from datetime import date, timedelta
from typing import Any

import pytest

from delivery.advisories import OLDEST, Advisory, Feed, feed_of
from delivery.errors import InvalidSettings

TODAY = date(2026, 3, 1)


def record(*events: dict[str, str], ecosystem: str = "PyPI", package: str = "requests", **more: Any) -> dict[str, Any]:
    affected = {"package": {"ecosystem": ecosystem, "name": package}, "ranges": [{"type": "ECOSYSTEM", "events": list(events)}]}
    return {"id": "GHSA-x84v", "aliases": ["PYSEC-1", "CVE-2018-18074"], "summary": "Leaks.", "affected": [affected], **more}


def feed(*records: Any, as_of: Any = "2026-03-01") -> Feed:
    return feed_of({"as_of": as_of, "advisories": list(records)})


FIXED = ({"introduced": "0"}, {"fixed": "2.20.0"})


def test_a_record_becomes_an_advisory_under_its_cve() -> None:
    (advisory,) = feed(record(*FIXED, database_specific={"severity": "MODERATE"})).advisories
    assert advisory == Advisory("CVE-2018-18074", "PyPI", "requests", (">=0, <2.20.0",), ("2.20.0",), "MEDIUM", "Leaks.")


@pytest.mark.parametrize(
    ("events", "vulnerable"),
    [
        (({"introduced": "1"}, {"fixed": "2"}, {"introduced": "3"}, {"fixed": "4"}), (">=1, <2", ">=3, <4")),
        (({"introduced": "1"}, {"last_affected": "2"}), (">=1, <=2",)),
        (({"introduced": "1"},), (">=1",)),
    ],
)
def test_every_range_of_versions_counts(events: tuple[dict[str, str], ...], vulnerable: tuple[str, ...]) -> None:
    assert feed(record(*events)).advisories[0].vulnerable == vulnerable


def test_names_of_python_packages_are_told_as_the_index_tells_them() -> None:
    assert feed(record(*FIXED, package="Zope.Interface")).advisories[0].package == "zope-interface"
    assert feed(record(*FIXED, package="@Types/node", ecosystem="npm")).advisories[0].package == "@Types/node"


def test_what_was_withdrawn_is_no_advisory_and_an_untold_severity_stays_untold() -> None:
    assert feed(record(*FIXED, withdrawn="2026-01-01T00:00:00Z")).advisories == ()
    assert feed(record(*FIXED)).advisories[0].severity == "UNKNOWN"


def test_every_mistake_is_told_at_once_by_the_records_id() -> None:
    with pytest.raises(InvalidSettings) as refused:
        feed(record(*FIXED, ecosystem="Go"), "text", {"id": "X"}, record({"fixed": "2"}), record(), as_of="today")
    assert refused.value.what.splitlines() == [
        "advisories: as_of: got 'today', expected a day like 2026-11-25",
        "advisories: GHSA-x84v: got the ecosystem 'Go' (known: PyPI, npm), expected an OSV record",
        "advisories: record 2: got a value of another kind, expected an OSV record",
        "advisories: X: got no 'affected', expected an OSV record",
        "advisories: GHSA-x84v: got an event before the first introduced, expected an OSV record",
        "advisories: GHSA-x84v: got no version of requests, expected an OSV record",
    ]


@pytest.mark.parametrize("document", [[], {}, {"advisories": []}, {"as_of": "2026-03-01", "advisories": {}}, None, "x"])
def test_another_shape_is_refused(document: Any) -> None:
    with pytest.raises(InvalidSettings, match="another shape"):
        feed_of(document)


def test_advisories_are_relied_on_for_some_days_and_not_before_their_day() -> None:
    told = {days: Feed(TODAY - timedelta(days=days), ()).stale(TODAY) for days in (-2, -1, 0, OLDEST.days, OLDEST.days + 1)}
    assert {days: bool(why) for days, why in told.items()} == {-2: True, -1: False, 0: False, 7: False, 8: True}
    assert told[8] == "the advisories are of 2026-02-21, 8 days old, 7 at most"
