from dataclasses import replace
from datetime import date, timedelta

import pytest

from delivery.gate import LONGEST_WAIVER, NOT_SCANNED, CheckWaiver, Gate
from delivery.scan import Finding, NotScanned, Scanned, Severity, count_by_severity

TODAY = date(2026, 3, 1)
HIGH = Finding("bandit", "B602", Severity.HIGH, "api/app.py:6", "shell=True")
LOW = Finding("bandit", "B101", Severity.LOW, "api/app.py:9", "assert")
WAIVER = CheckWaiver(check="bandit", rule="B602", reason="the argument is a constant", owner="mia", until=date(2026, 3, 31))


def passes(*findings: Finding, fails_at: Severity = Severity.LOW, waivers: tuple[CheckWaiver, ...] = (), today: date = TODAY) -> bool:
    return Gate(today, waivers).decide("bandit", Scanned(findings), fails_at=fails_at).passes


@pytest.mark.parametrize("found", Severity)
@pytest.mark.parametrize("gate", Severity)
def test_a_finding_stops_a_release_from_the_gates_severity_on(found: Severity, gate: Severity) -> None:
    order = ["low", "medium", "high", "critical"]
    assert passes(replace(HIGH, severity=found), fails_at=gate) is (order.index(found) < order.index(gate))


def test_what_is_below_the_gate_is_kept_for_people_to_see() -> None:
    decision = Gate(TODAY).decide("bandit", Scanned((LOW, HIGH)), fails_at=Severity.HIGH)
    assert decision.stopping == (HIGH,)
    assert decision.tolerated == (LOW,)


def test_a_waiver_excuses_its_own_rule_in_its_own_check_alone() -> None:
    assert passes(HIGH, waivers=(WAIVER,))
    assert not passes(HIGH, replace(HIGH, rule="B608"), waivers=(WAIVER,))
    assert not passes(HIGH, waivers=(replace(WAIVER, check="ruff"),))
    assert not passes(HIGH, waivers=(replace(WAIVER, rule=NOT_SCANNED),))


@pytest.mark.parametrize(
    ("place", "covered"),
    [
        (None, True),
        ("api/app.py", True),
        ("api/app.py:6", True),
        ("api", True),
        ("api/", True),
        ("api/app.py:60", False),
        ("api/ap", False),
        ("web", False),
    ],
)
def test_a_waiver_for_a_place_covers_what_lies_there(place: str | None, covered: bool) -> None:  # noqa: FBT001
    assert passes(HIGH, waivers=(replace(WAIVER, place=place),)) is covered


def test_a_waiver_for_a_package_covers_every_version_of_it_and_no_other_package() -> None:
    found = replace(HIGH, place="requests 2.19.0")
    assert passes(found, waivers=(replace(WAIVER, place="requests"),))
    assert not passes(found, waivers=(replace(WAIVER, place="request"),))


def test_a_waiver_holds_through_its_last_day_and_then_fails_by_name_even_when_nothing_is_found_any_more() -> None:
    last = date(2026, 3, 31)
    assert passes(HIGH, waivers=(WAIVER,), today=last)
    assert Gate(last, (WAIVER,)).wrong_waivers() == ()
    day_after = last + timedelta(days=1)
    assert not passes(HIGH, waivers=(WAIVER,), today=day_after)
    assert Gate(day_after, (WAIVER,)).wrong_waivers() == ("The waiver of B602 in bandit (mia) ran out on 2026-03-31.",)


def test_a_waiver_for_ever_is_none() -> None:
    last = TODAY + LONGEST_WAIVER
    assert passes(HIGH, waivers=(replace(WAIVER, until=last),))
    too_long = replace(WAIVER, until=last + timedelta(days=1))
    assert not passes(HIGH, waivers=(too_long,))
    assert "more than 180 days ahead" in Gate(TODAY, (too_long,)).wrong_waivers()[0]


def test_what_was_not_scanned_is_never_clean_whatever_the_severity() -> None:
    decision = Gate(TODAY).decide("bandit", NotScanned("bandit is not installed"), fails_at=Severity.CRITICAL)
    assert not decision.passes
    assert decision.blind == "bandit is not installed"


def test_what_was_not_scanned_passes_by_a_waiver_that_says_so_until_its_day() -> None:
    waiver = replace(WAIVER, rule=NOT_SCANNED)
    blind = NotScanned("bandit is not installed")
    assert Gate(TODAY, (waiver,)).decide("bandit", blind, fails_at=Severity.LOW).used == (waiver,)
    assert Gate(TODAY, (waiver,)).decide("bandit", blind, fails_at=Severity.LOW).passes
    assert not Gate(TODAY, (WAIVER,)).decide("bandit", blind, fails_at=Severity.LOW).passes
    assert not Gate(date(2026, 4, 1), (waiver,)).decide("bandit", blind, fails_at=Severity.LOW).passes
    assert not Gate(TODAY, (waiver,)).decide("ruff", blind, fails_at=Severity.LOW).passes


def test_a_waiver_needs_a_reason_and_an_owner() -> None:
    nobodys = replace(WAIVER, reason=" ", owner="")
    assert len(nobodys.problems()) == 2
    assert not nobodys.holds_on(TODAY)


def test_severities_are_counted_worst_first() -> None:
    assert count_by_severity((LOW, HIGH, LOW)) == "1 high, 2 low"
    assert count_by_severity(()) == "nothing"
