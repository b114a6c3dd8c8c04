from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from delivery.contraction import Contraction, Proof
from delivery.environment import JudgeSettings, Proving
from delivery.errors import DeliveryError
from delivery.journal import Ending, Evidence
from delivery.operations import MigrationWaiver
from delivery.ports import RunResult
from delivery.verification import Deed, Finding, Verification
from tasks import acts
from tasks.report import evidence_markdown, rollout_markdown, rollout_rows, verification_markdown
from tasks.report_shares import shares
from tests.samples import a_release, an_environment
from tests.simulated_target import told_of
from tests.tasks.test_rollout import BLUE, GREEN, QUICKLY, World, arm, disarm, fail_the_migration, refuse_the_promotion


def told(world: World) -> str:
    rollout = world.rollouts[-1]
    return rollout_markdown(world.store.entries(rollout), world.store.rollout(rollout))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_first_line_says_how_it_ended(world: World) -> None:
    world.roll_out()

    lines = told(world).splitlines()
    assert lines[0] == "# Production runs v1.2.0."
    assert lines[2] == "**v1.1.0 → v1.2.0** on production · `production-1` · rollout by ann · 2026-07-01 10:00:00 UTC · 5 min"


def test_the_timeline_names_each_step_when_and_how_long(world: World) -> None:
    world.roll_out()

    assert "| time | step | took | what |" in told(world)
    assert "| 10:00:00 | migrate | 0.0 s | the schema went from 0001 to 0002 |" in told(world)
    assert "| 10:02:00 | watch-50 | 2 min | v1.2.0 is well at 50 % (" in told(world)


def test_requests_and_errors_of_both_versions_stand_beside_each_share(world: World) -> None:
    world.traffic.error_share[GREEN.id] = 0.01
    world.traffic.seconds_each[GREEN.id] = 0.08
    world.roll_out()

    assert "| 10 % | 240 | 2 (0.83 %) | 98 ms | 2,160 | 0 | 48 ms |" in told(world)
    assert [(share.percent, share.green["requests"], share.blue["requests"]) for share in shares(world.store.entries("production-1"))] == [
        (10, 240, 2160),
        (50, 1200, 1200),
        (100, 1200, 0),
    ]


def test_counters_that_began_anew_are_counted_from_there(world: World) -> None:
    world.clock.at(240, world.traffic._codes.clear)  # the traffic layer starts again within the last interval of the 50 %
    world.roll_out()

    assert [share.green["requests"] for share in shares(world.store.entries("production-1"))] == [240, 50, 1200]


def test_numbers_that_nobody_has_are_called_unknown(tmp_path: Path) -> None:
    world = World(tmp_path, environment=QUICKLY)
    world.traffic.silent = True
    world.roll_out()

    assert "| 100 % | unknown | unknown | unknown | unknown | unknown | unknown |" in told(world)


def test_a_breach_tells_what_was_answered_until_blue_had_everybody_back(world: World) -> None:
    world.traffic.error_share[GREEN.id] = 0.5
    world.roll_out()

    story = told(world)
    assert story.startswith("# Production is back on v1.1.0. v1.2.0 was turned back: error rate 50 % is above 5 % for 45 s at 10 %")
    assert "| **error rate 50 % is above 5 % for 45 s at 10 %" in story, "what went wrong is bold"
    assert "## Logs\n\n- `" in story
    assert "**Next:** find out why in the logs of v1.2.0, then release a new version." in story


def test_a_failed_migration_shows_its_output_and_where_it_stopped(world: World) -> None:
    world.target.command = lambda command: RunResult(1, ("ERROR: no such column", "```")) if told_of(command) == "alembic upgrade" else None
    world.roll_out()

    assert "## Migrations\n\nmigration failed: ERROR: no such column\n\n```\nERROR: no such column\n'''\n```" in told(world)


def test_what_the_failing_step_advised_is_the_next_step(world: World) -> None:
    world.target.fail("launch", 1, DeliveryError("There is no room.", next="free 2 GiB."))
    world.roll_out()

    assert told(world).endswith("**Next:** free 2 GiB.\n")


def test_a_rollout_that_needs_a_person_names_the_page_to_read(world: World) -> None:
    world.target.fail("check", 1, DeliveryError("The engine is gone.", next="start it."))
    world.target.fail("shift", 1, DeliveryError("The traffic layer is broken.", next="repair it."))
    assert world.roll_out().ending is Ending.NEEDS_HUMAN

    assert "**Next:** repair it. The page for this: docs/runbooks/needs-human.md." in told(world)


def test_a_live_release_says_how_long_the_way_back_is_one_shift(world: World) -> None:
    world.roll_out()

    assert "v1.1.0 stays warm until 10:20:00 UTC; until then `greenroom rollback production` is one shift of traffic." in told(world)


def test_a_rollout_under_way_says_where_it_is(world: World) -> None:
    stories: list[str] = []
    world.rollouts.append("production-1")
    world.clock.at(130, lambda: stories.append(told(world)))
    world.roll_out()

    assert stories[0].startswith("# Production: v1.2.0 is at watch-50.")
    assert "| watch-50 |  | under way |" in stories[0]


def test_an_interrupted_step_is_told(world: World) -> None:
    world.environment = QUICKLY
    for fuse in range(3, 200):
        fresh = World(world.folder, environment=QUICKLY)
        refuse_the_promotion(fresh)
        arm(fresh, fuse)
        fresh.roll_out_until_killed()
        disarm(fresh)
        fresh.recover()
        if "interrupted, taken up again (attempt 2)" in told(fresh):
            break
    else:
        pytest.fail("no interruption was ever told")
    assert "turned back | " in told(fresh) or "restore" in told(fresh)


def test_the_rows_of_the_table_are_the_timeline(world: World) -> None:
    world.roll_out()

    rows = rollout_rows(world.store.entries("production-1"))
    assert rows[0] == {"time": "10:00:00", "step": "prepare", "took": "0.0 s", "what": "the images of v1.2.0 are here, by digest"}
    assert len(rows) == 13


def test_foreign_text_breaks_neither_table_nor_page(world: World) -> None:
    world.target.fail("launch", 1, DeliveryError("a | b\n<script>", next="look."))
    world.roll_out()

    assert "a \\| b &lt;script>" in told(world)


def test_the_report_tells_for_each_thing_that_goes_whether_it_is_unused_and_who_answers_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proofs = [
        Proof(Contraction("0002", "drop-column", "rooms", (name,)), BLUE.id, holds, how)
        for name, holds, how in (("note", True, "named in no file"), ("seat", False, "seat is named in api:/srv/a.py:3"))
    ]
    facts = {"contractions": [proof.facts() for proof in proofs]}
    monkeypatch.setattr(acts, "prove", lambda _step, _scene: Evidence(well=True, summary="proven", facts=facts))
    waiver = MigrationWaiver(rule="contraction", table="rooms", reason="it is a comment", owner="Bea", until=date(2026, 7, 1))
    world = World(tmp_path, environment=replace(an_environment(), prove=Proving(smoke=False, load=False, clone=True), waiver=(waiver,)))
    world.roll_out()
    text = told(world)
    assert "## What the migrations take away" in text
    assert f"| drop-column on rooms: note | {BLUE.id} | proved: named in no file |" in text
    assert (
        f"| drop-column on rooms: seat | {BLUE.id} | **not proved**: seat is named in api:/srv/a.py:3. "
        "**waived by Bea until 2026-07-01: it is a comment** |"
    ) in text


def test_the_report_tells_which_lock_each_statement_held_on_the_copy_and_how_long_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = {"revision": "0002", "sql": "ALTER TABLE a | b", "table": "rooms", "rows": 1_000, "touched": 0, "rewrites": False}
    measured = [
        {**part, "seconds": 0.012, "lock": "ACCESS EXCLUSIVE"},
        {**part, "seconds": 1.5, "lock": "", "rows": None, "table": ""},
        {"sql": "of another shape"},
    ]
    monkeypatch.setattr(acts, "prove", lambda _step, _scene: Evidence(well=True, summary="proven", facts={"measured": measured}))
    world = World(tmp_path, environment=replace(an_environment(), prove=Proving(smoke=False, load=False, clone=True)))
    world.roll_out()
    lines = told(world).splitlines()
    assert "| 0002 | ALTER TABLE a \\| b | ACCESS EXCLUSIVE on rooms | 1,000 | 12 ms |" in lines
    assert "| 0002 | ALTER TABLE a \\| b | NONE | unknown | 1,500 ms |" in lines
    assert not [line for line in lines if "of another shape" in line]


def test_without_a_rehearsal_no_lock_is_told(world: World) -> None:
    world.roll_out()
    assert "## Migrations" in told(world)
    assert "On a copy" not in told(world)


def test_the_evidence_shows_what_changes_what_proved_it_and_what_will_happen(tmp_path: Path) -> None:
    staging = World(tmp_path, environment=an_environment("staging", traffic=QUICKLY.traffic))
    staging.roll_out()
    plan = World(tmp_path).plan(a_release("1.2.0", commits=("Faster lists", "A new <page>")))

    evidence = evidence_markdown(plan, staging.store.entries("staging-1"))

    assert evidence.startswith("# Production: v1.1.0 → v1.2.0?\n\nStaging runs v1.2.0.\n")
    assert "- Faster lists\n- A new &lt;page>" in evidence
    assert f"| api | `{GREEN.images['api']}` |" in evidence
    assert "Alembic brings the schema to its head before the new version starts. On staging: the schema went from 0001 to 0002" in evidence
    assert "- `shift-10`: 10 % of the users get the new version" in evidence
    assert "- `watch-10`: watched for 2 min; back at once on error_rate above 0.05 for 45 s" in evidence
    assert "A failure before the promotion gives v1.1.0 every user back; it stays warm for 15 min after it." in evidence


def test_the_plan_says_where_the_judge_compares_both_versions(tmp_path: Path) -> None:
    plan = World(tmp_path, environment=an_environment(judge=JudgeSettings())).plan()
    told = {line.split("`")[1]: line for line in evidence_markdown(plan, ()).splitlines() if line.startswith("- `watch-")}
    assert told["watch-50"].endswith(", evidence that it is worse than the live version")
    assert "evidence" not in told["watch-100"]


def test_evidence_without_staging_says_so(tmp_path: Path) -> None:
    assert "**No environment before this one has shown it.**" in evidence_markdown(World(tmp_path).plan(), ())


def test_a_first_release_has_nothing_to_go_back_to(tmp_path: Path) -> None:
    evidence = evidence_markdown(World(tmp_path, blue=None).plan(), ())

    assert evidence.startswith("# Production: nothing → v1.2.0?")
    assert "A failure before the promotion removes the new version again." in evidence


def test_a_rollback_is_called_one(tmp_path: Path) -> None:
    world = World(tmp_path, blue=GREEN)
    world.roll_out(world.plan(BLUE, kind="rollback"))

    assert "rollback by ann" in told(world)


def test_an_untouched_environment_is_told_as_unchanged(world: World) -> None:
    fail_the_migration(world)
    world.roll_out()

    assert told(world).startswith("# Production is unchanged. v1.2.0 was turned back: migration failed:")
    assert world.store.rollout("production-1").ended_at == world.store.now() - timedelta(0)


def test_what_users_reach_is_a_small_table() -> None:
    at = datetime(2026, 7, 1, 10, tzinfo=UTC)
    findings = (
        Finding("GET /health", "sick", "it answered <b> | 503.", failures=3, since=at),
        Finding("GET /", "well", "it answered 200."),
    )
    row = Verification("production", 7, at, "production-2", "v1.1.0-110aaaaa", findings, Deed.ALERT, "GET /health fails.", alerted=True)
    lines = verification_markdown(an_environment(), row, obstacle="nothing was live before it").split("\n\n")

    assert lines[0] == "# Production fails"
    assert lines[2].splitlines()[0] == "| endpoint | answer | time | failures in a row |"
    assert lines[2].splitlines()[2:] == [
        "| sick: GET /health | it answered &lt;b> \\| 503. | 2026-07-01 10:00:00 UTC | 3 |",
        "| well: GET / | it answered 200. | 2026-07-01 10:00:00 UTC | 0 |",
    ]
    assert lines[3:] == ["**Alert**: GET /health fails.", "It does not go back by itself: nothing was live before it."]
