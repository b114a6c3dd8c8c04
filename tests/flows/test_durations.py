"""A migration that was quick on staging's copy is asked about production's rows before anybody is asked to approve it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date

import pytest

from delivery.durations import Size
from delivery.errors import InvalidSettings, TransientError
from delivery.journal import Evidence
from delivery.release import Release
from flows.durations import with_durations
from flows.migrations import admission
from flows.promote import ask, pending_here
from tasks import acts
from tasks.report_migrations import migrations_markdown
from tests.flows.conftest import Stage
from tests.flows.test_migrations import SAFE, a_release_with

Edit = Callable[[str, str, str], None]
SCAN: dict[str, object] = {
    "revision": "0003",
    "sql": "ALTER TABLE rooms ADD CHECK (fee > 0)",
    "seconds": 0.1,
    "table": "rooms",
    "rows": 100_000,
}
SCAN |= {"touched": 100_000, "lock": "ACCESS EXCLUSIVE", "rewrites": False}
WAIVER = '\n[[waiver]]\nrule = "duration"\ntable = "rooms"\nreason = "at night"\nowner = "Bea"\nuntil = "{until}"\n'


@pytest.fixture
def measured() -> dict[str, object]:
    return SCAN


@pytest.fixture
def release(stage: Stage, edit_environment: Edit, monkeypatch: pytest.MonkeyPatch, measured: dict[str, object]) -> Release:
    """On staging, where it was measured beside what serves in production."""
    before = stage.on_staging("1.0.0")
    stage.bring(before, "production")
    edit_environment("staging", "smoke = false", "smoke = false\nclone = true")
    facts = {"proven": ["0003"], "versions": [before.id], "measured": [measured]}
    monkeypatch.setattr(acts, "prove", lambda _step, _scene: Evidence(well=True, summary="proven", facts=facts))
    made = a_release_with(stage, review=SAFE)
    stage.bring(made, "staging")
    return made


@pytest.fixture
def has(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], list[str]]:
    """Production's table has that many rows from now on; the list grows by each question."""
    asked: list[str] = []

    def rows(number: int | None) -> list[str]:
        def table_sizes(_: Release, *, variables: Mapping[str, str]) -> Mapping[str, Size]:
            asked.append(str(sorted(variables)))
            return {"rooms": Size(number, 8192)}

        monkeypatch.setattr(stage.production, "table_sizes", table_sizes, raising=False)
        return asked

    return rows


def test_what_takes_a_blink_there_is_asked_for_with_its_range_shown(stage: Stage, release: Release, has: Callable[[int], object]) -> None:
    has(200_000)
    request = ask(stage.house, release.id, "production", "normal", key="run-1")
    told = pending_here(stage.house, request.plan)
    assert told is not None
    shown = "\n".join(migrations_markdown(told))
    assert "Its migrations take 100 ms to 600 ms here, by a copy's measure." in shown
    assert "| 0003 | ALTER TABLE rooms ADD CHECK (fee > 0) | ACCESS EXCLUSIVE on rooms | 100 ms to 600 ms (scan of 200,000 rows;" in shown


@pytest.mark.parametrize(
    ("rows", "why"), [(5_000_000, r"2\.5 s to 15\.0 s \(scan of 5,000,000 rows"), (None, "unknown: nobody knows how many rows rooms has")]
)
def test_what_would_keep_readers_out_or_may_do_so_is_refused_before_anybody_is_asked(
    stage: Stage, release: Release, has: Callable[[int | None], object], rows: int | None, why: str
) -> None:
    has(rows)
    with pytest.raises(InvalidSettings, match=rf"Production is unchanged\. v2\.1\.0 is refused: duration \[ACCESS.*{why}"):
        ask(stage.house, release.id, "production", "normal", key="run-1")
    assert not stage.house.store.requests(environment="production")


def test_a_target_that_cannot_be_asked_leaves_it_unknown(
    stage: Stage, release: Release, has: Callable[[int], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidSettings, match="unknown: the database could not be asked for its rows"):
        ask(stage.house, release.id, "production", "normal", key="run-1")
    has(1)

    def away(*_: object, **__: object) -> None:
        raise TransientError("It does not answer.", next="wait.")

    monkeypatch.setattr(stage.production, "table_sizes", away)
    with pytest.raises(InvalidSettings, match="unknown: the database could not be asked for its rows"):
        ask(stage.house, release.id, "production", "normal", key="run-1")


def test_a_waiver_of_productions_lets_it_pass_and_is_shown(
    stage: Stage, release: Release, has: Callable[[int], object], edit_environment: Edit
) -> None:
    has(5_000_000)
    today: date = stage.house.store.now().date()
    edit_environment("production", "[prove]", WAIVER.format(until=today) + "[prove]")
    request = ask(stage.house, release.id, "production", "normal", key="run-1")
    told = pending_here(stage.house, request.plan)
    assert told is not None
    assert f"**Users wait** for rooms: waived by Bea until {today}: at night." in migrations_markdown(told)


@pytest.mark.parametrize("measured", [{**SCAN, "touched": 0}])
def test_metadata_is_not_worth_a_question(stage: Stage, release: Release, has: Callable[[int], list[str]]) -> None:
    asked = has(10**9)
    request = ask(stage.house, release.id, "production", "normal", key="run-1")
    told = pending_here(stage.house, request.plan)
    assert told is not None
    assert [one.likely for one in told.estimates] == [0.1]
    assert asked == []


def test_what_was_measured_of_another_file_under_the_same_name_says_nothing(
    stage: Stage, release: Release, has: Callable[[int], object]
) -> None:
    has(1)
    production = stage.house.environment("production")
    told = admission(stage.house, release.review, production)
    edited = replace(told, revisions=(replace(told.revisions[0], sha256="e" * 64),))
    assert len(with_durations(stage.house, told, release, production).estimates) == 1
    assert with_durations(stage.house, edited, release, production).estimates == ()
