"""What an environment makes of a release's migrations, by what its journal tells of its database."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

import pytest

from delivery.contraction import Contraction, Proof
from delivery.errors import InvalidSettings
from delivery.journal import Evidence
from delivery.operations import Lock, Operation, Safety
from delivery.plan import Plan
from delivery.release import Release
from delivery.revisions import MigrationReview, ReviewedRevision
from flows.migrations import admission, applied_in, beside_whom, contractions_at, require_admission, serving_after
from flows.pipeline import bring_to_staging
from flows.promote import ask
from flows.telling import Telling
from tasks import acts
from tasks.report_migrations import migrations_markdown
from tests.flows.conftest import Stage

RENAME = Operation(
    1, "ALTER …", "rename-column", Safety.UNSAFE, Lock.ACCESS_EXCLUSIVE, "rooms", "the live version reads it", "expand first."
)
UNSAFE = MigrationReview(("0003",), (ReviewedRevision("0003", ("0002",), "f" * 64, "Titles", "ALTER TABLE rooms …", (RENAME,)),))
WAIVER = '\n[[waiver]]\nrule = "rename-column"\ntable = "rooms"\nreason = "nobody reads it"\nowner = "Bea"\nuntil = "{until}"\n'

Edit = Callable[[str, str, str], None]


def a_release_with(stage: Stage, version: str = "1.1.0", *, review: MigrationReview = UNSAFE) -> Release:
    release = replace(stage.published(version), review=review)
    other = replace(release, id=release.id.replace("v1", "v2"), version=replace(release.version, major=2), sha=type(release.sha)("c" * 40))
    stage.house.store.save_release(other)
    return other


def waive(edit: Edit, environment: str, until: date) -> None:
    edit(environment, "[prove]", WAIVER.format(until=until) + "[prove]")


def test_where_the_database_stands_is_told_by_the_newest_rollout_that_migrated(stage: Stage) -> None:
    assert applied_in(stage.house, "staging") is None
    stage.on_staging("1.0.0")
    applied = applied_in(stage.house, "staging")
    assert applied is not None
    assert (applied.revisions, dict(applied.hashes)) == (("0002",), {"0002": "0" * 64})


def test_an_unsafe_migration_is_refused_before_staging_is_touched(stage: Stage) -> None:
    stage.on_staging("1.0.0")
    acts = list(stage.targets["staging"].acts)
    with (
        Telling() as telling,
        pytest.raises(
            InvalidSettings,
            match=r"Staging is unchanged\. v2\.1\.0 is refused: revision 0003 may not run while v1\.0\.0 serves: .*rename-column",
        ) as raised,
    ):
        bring_to_staging(stage.house, a_release_with(stage), telling)
    assert "[[waiver]]" in raised.value.next
    assert stage.targets["staging"].acts == acts


def test_staging_may_waive_what_production_does_not(stage: Stage, edit_environment: Edit) -> None:
    stage.bring(stage.on_staging("1.0.0"), "production")
    waive(edit_environment, "staging", stage.house.store.now().date())
    release = a_release_with(stage)
    stage.bring(release, "staging")
    with pytest.raises(InvalidSettings, match=r"Production is unchanged\. v2\.1\.0 is refused: revision 0003 may not run"):
        ask(stage.house, release.id, "production", "normal", key="run-1")
    assert not stage.house.store.requests(environment="production")


def test_a_waived_objection_is_shown_at_the_gate_with_who_and_why(stage: Stage, edit_environment: Edit) -> None:
    stage.bring(stage.on_staging("1.0.0"), "production")
    today = stage.house.store.now().date()
    for name in ("staging", "production"):
        waive(edit_environment, name, today)
    release = a_release_with(stage)
    stage.bring(release, "staging")
    request = ask(stage.house, release.id, "production", "normal", key="run-1")
    shown = "\n".join(migrations_markdown(admission(stage.house, release.review, request.plan.environment)))
    assert f"**unsafe, waived by Bea until {today}: nobody reads it**" in shown
    assert "ACCESS EXCLUSIVE on rooms" in shown
    assert "```sql\nALTER TABLE rooms …\n```" in shown


def test_an_expired_waiver_lets_nothing_through(stage: Stage, edit_environment: Edit) -> None:
    stage.on_staging("1.0.0")
    waive(edit_environment, "staging", stage.house.store.now().date() - timedelta(days=1))
    with Telling() as telling, pytest.raises(InvalidSettings, match="may not run while"):
        bring_to_staging(stage.house, a_release_with(stage), telling)


def proving(edit: Edit, monkeypatch: pytest.MonkeyPatch, *, versions: list[str]) -> None:
    """Staging proves migrations from now on; its rehearsals tell that these releases lived through 0003."""
    edit("staging", "smoke = false", "smoke = false\nclone = true")
    facts = {"proven": ["0003"], "versions": versions}
    monkeypatch.setattr(acts, "prove", lambda _step, _scene: Evidence(well=True, summary="proven", facts=facts))


SAFE = MigrationReview(("0003",), (ReviewedRevision("0003", ("0002",), "f" * 64, "Titles", "SELECT 1", ()),))
OPAQUE = replace(SAFE, revisions=(replace(SAFE.revisions[0], operations=(replace(RENAME, rule="opaque", safety=Safety.NEEDS_CLONE),)),))


@pytest.mark.parametrize("review", [SAFE, OPAQUE], ids=["safe", "needs the clone"])
def test_production_takes_what_was_proven_beside_the_version_that_serves_there(
    stage: Stage, edit_environment: Edit, monkeypatch: pytest.MonkeyPatch, review: MigrationReview
) -> None:
    live = stage.on_staging("1.0.0")
    stage.bring(live, "production")
    release = a_release_with(stage, review=review)
    proving(edit_environment, monkeypatch, versions=[live.id])
    stage.bring(release, "staging")
    assert ask(stage.house, release.id, "production", "normal", key="run-1").plan.release == release


def test_production_refuses_what_was_proven_beside_another_version(
    stage: Stage, edit_environment: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = stage.on_staging("1.0.0")
    stage.bring(live, "production")
    release = a_release_with(stage, review=SAFE)
    proving(edit_environment, monkeypatch, versions=["v0.9.0-aaaaaaaa"])
    stage.bring(release, "staging")
    with pytest.raises(InvalidSettings, match=rf"revision 0003 was proven beside v0\.9\.0-aaaaaaaa, and {live.id} serves") as raised:
        ask(stage.house, release.id, "production", "normal", key="run-1")
    assert "waive clone on *" in raised.value.next
    waived = WAIVER.format(until="2999-01-01").replace('"rename-column"', '"clone"')
    edit_environment("production", "[prove]", f"{waived}[prove]")
    with pytest.raises(InvalidSettings, match="revision 0003 was proven beside"):  # of one table, and this is about all
        ask(stage.house, release.id, "production", "normal", key="run-2")
    edit_environment("production", 'table = "rooms"', 'table = "*"')
    assert ask(stage.house, release.id, "production", "normal", key="run-3").plan.release == release


DROPPING = replace(SAFE, revisions=(replace(SAFE.revisions[0], operations=(replace(RENAME, rule="drop-column", names=("note",)),)),))
GONE = Contraction("0003", "drop-column", "rooms", ("note",))


def waive_for_ever(edit: Edit, environment: str, rule: str, table: str = "rooms") -> None:
    waiver = WAIVER.format(until="2999-01-01").replace("rename-column", rule).replace('"rooms"', f'"{table}"')
    edit(environment, "[prove]", f"{waiver}[prove]")


def dropping(stage: Stage, edit: Edit) -> Release:
    """Production serves v1.0.0; the next release drops a column, and somebody answers for that rule in both environments."""
    stage.bring(stage.on_staging("1.0.0"), "production")
    for name in ("staging", "production"):
        waive_for_ever(edit, name, "drop-column")
    return a_release_with(stage, review=DROPPING)


def test_a_waived_contraction_is_refused_without_a_proof_even_where_nobody_makes_copies(stage: Stage, edit_environment: Edit) -> None:
    release = dropping(stage, edit_environment)
    stage.bring(release, "staging")
    with pytest.raises(InvalidSettings, match=r"revision 0003 contracts: drop-column on rooms: note: not proved beside v1\.0\.0") as raised:
        ask(stage.house, release.id, "production", "normal", key="run-1")
    assert "no rehearsal in staging has looked at it: set prove.clone = true there" in raised.value.what
    waive_for_ever(edit_environment, "production", "clone", "*")
    with pytest.raises(InvalidSettings, match="not proved beside"):  # of rehearsals, and this is about use
        ask(stage.house, release.id, "production", "normal", key="run-2")
    waive_for_ever(edit_environment, "production", "contraction", "halls")
    with pytest.raises(InvalidSettings, match="not proved beside"):  # of another table
        ask(stage.house, release.id, "production", "normal", key="run-3")
    edit_environment("production", 'rule = "drop-column"', 'rule = "add-column"')
    waive_for_ever(edit_environment, "production", "contraction")
    request = ask(stage.house, release.id, "production", "normal", key="run-4")
    assert request.plan.release == release
    shown = at_the_gate(stage, request.plan)
    assert "| drop-column on rooms: note | v1.0.0-100aaaaa | **not proved**: no rehearsal in staging has looked at it" in shown
    assert "**waived by Bea until 2999-01-01: nobody reads it** |" in shown


def at_the_gate(stage: Stage, plan: Plan) -> str:
    told = admission(stage.house, plan.release.review, plan.environment)
    return "\n".join(migrations_markdown(told, contractions_at(stage.house, plan.environment, told.revisions)))


def rehearsed(monkeypatch: pytest.MonkeyPatch, edit: Edit, live: Release, *proofs: Proof) -> None:
    """Staging's rehearsals tell that `live` lived through 0003, and these proofs."""
    edit("staging", "smoke = false", "smoke = false\nclone = true")
    facts = {"proven": ["0003"], "versions": [live.id], "contractions": [proof.facts() for proof in proofs]}
    monkeypatch.setattr(acts, "prove", lambda _step, _scene: Evidence(well=True, summary="proven", facts=facts))


def test_production_takes_a_contraction_that_was_proved_in_staging_beside_what_serves_here_and_the_gate_says_how(
    stage: Stage, edit_environment: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = dropping(stage, edit_environment)
    live = stage.house.store.live("production")
    assert live is not None
    rehearsed(monkeypatch, edit_environment, live, Proof(GONE, live.id, True, "note is named in none of 3 files"))
    stage.bring(release, "staging")
    request = ask(stage.house, release.id, "production", "normal", key="run-1")
    assert f"| drop-column on rooms: note | {live.id} | proved: note is named in none of 3 files |" in at_the_gate(stage, request.plan)


@pytest.mark.parametrize(
    ("proof", "how"),
    [
        (Proof(GONE, "v1.0.0-100aaaaa", False, "note is named in api:/srv/a.py:3"), "note is named in api:/srv/a.py:3"),
        (Proof(GONE, "v0.9.0-090aaaaa", True, "well"), "no rehearsal in staging has looked at it"),
        (Proof(replace(GONE, names=("title",)), "v1.0.0-100aaaaa", True, "well"), "no rehearsal in staging has looked at it"),
        (Proof(replace(GONE, revision="0004"), "v1.0.0-100aaaaa", True, "well"), "no rehearsal in staging has looked at it"),
    ],
    ids=["still named", "of another version", "of another column", "of another revision"],
)
def test_production_refuses_what_staging_waived_or_proved_of_something_else(
    stage: Stage, edit_environment: Edit, monkeypatch: pytest.MonkeyPatch, proof: Proof, how: str
) -> None:
    release = dropping(stage, edit_environment)
    live = stage.house.store.live("production")
    assert live is not None
    rehearsed(monkeypatch, edit_environment, live, proof)
    stage.bring(release, "staging")
    with pytest.raises(InvalidSettings) as raised:
        ask(stage.house, release.id, "production", "normal", key="run-1")
    assert f"not proved beside {live.id}: {how}" in raised.value.what
    assert "waive contraction" in raised.value.next


def test_what_is_dropped_needs_no_waiver_once_nobody_uses_it(stage: Stage, edit_environment: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.bring(stage.on_staging("1.0.0"), "production")
    live = stage.house.store.live("production")
    assert live is not None
    release = a_release_with(stage, review=DROPPING)
    with pytest.raises(InvalidSettings, match=r"may not run while v1\.0\.0 serves: .*drop-column"):
        require_admission(stage.house, release, stage.house.environment("staging"))  # which makes no copy yet, so that nobody can look
    rehearsed(monkeypatch, edit_environment, live, Proof(GONE, live.id, True, "as it was found"))
    require_admission(stage.house, release, stage.house.environment("staging"))
    stage.bring(release, "staging")
    request = ask(stage.house, release.id, "production", "normal", key="run-1")
    assert "drop-column: nobody who serves uses it; otherwise: the live version reads it" in at_the_gate(stage, request.plan)


@pytest.mark.parametrize("rule", ["rename", "set-not-null", "cascade"])
def test_disuse_excuses_no_other_objection(stage: Stage, edit_environment: Edit, monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    stage.bring(stage.on_staging("1.0.0"), "production")
    live = stage.house.store.live("production")
    assert live is not None
    operations = (replace(DROPPING.revisions[0].operations[0], rule=rule),)
    release = a_release_with(stage, review=replace(DROPPING, revisions=(replace(DROPPING.revisions[0], operations=operations),)))
    rehearsed(monkeypatch, edit_environment, live, Proof(replace(GONE, rule=rule), live.id, True, "as it was found"))
    stage.bring(release, "staging")
    with pytest.raises(InvalidSettings, match=f"may not run while .*{rule}"):
        ask(stage.house, release.id, "production", "normal", key="run-1")


def test_what_was_proved_of_a_revision_that_was_written_anew_since_counts_no_longer(
    stage: Stage, edit_environment: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = dropping(stage, edit_environment)
    live = stage.house.store.live("production")
    assert live is not None
    rehearsed(monkeypatch, edit_environment, live, Proof(GONE, live.id, True, "well"))
    stage.bring(release, "staging")
    anew = replace(DROPPING, revisions=(replace(DROPPING.revisions[0], sha256="e" * 64),))
    production = stage.house.environment("production")
    ((proof, waiver),) = contractions_at(stage.house, production, anew.revisions)
    assert (proof.holds, waiver) == (False, None)


def test_what_only_the_copy_saw_go_needs_its_proof_as_well(stage: Stage, edit_environment: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.bring(stage.on_staging("1.0.0"), "production")
    live = stage.house.store.live("production")
    assert live is not None
    release = a_release_with(stage, review=SAFE)
    unseen = Proof(Contraction("0003", "gone", "rooms", ("note",)), live.id, False, "note is named in api:/srv/a.py:3")
    rehearsed(monkeypatch, edit_environment, live, unseen)
    stage.bring(release, "staging")
    with pytest.raises(InvalidSettings, match="contracts: gone on rooms: note: not proved"):
        ask(stage.house, release.id, "production", "normal", key="run-1")


def test_what_is_kept_warm_counts_until_it_is_not(stage: Stage, edit_environment: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    warm = stage.on_staging("0.9.0")
    stage.bring(warm, "production")
    release = dropping(stage, edit_environment)
    live = stage.house.store.live("production")
    assert live is not None
    assert {one.id for one in beside_whom(stage.house, stage.house.environment("staging"), DROPPING)} >= {live.id, warm.id}
    assert beside_whom(stage.house, stage.house.environment("staging"), SAFE) == (live,)
    rehearsed(monkeypatch, edit_environment, live, Proof(GONE, live.id, True, "well"))
    stage.bring(release, "staging")
    with pytest.raises(InvalidSettings, match=f"not proved beside {warm.id}"):
        ask(stage.house, release.id, "production", "normal", key="run-1")


def test_an_only_environment_without_copies_refuses_what_contracts(stage: Stage, edit_environment: Edit) -> None:
    stage.bring(stage.on_staging("1.0.0"), "production")
    edit_environment("production", 'after = "staging"\n', "")
    waive_for_ever(edit_environment, "production", "drop-column")
    release = a_release_with(stage, review=DROPPING)
    with pytest.raises(InvalidSettings, match="production makes no copy of its database, and no environment comes before it"):
        ask(stage.house, release.id, "production", "normal", key="run-1")
    edit_environment("production", "[prove]\n", "[prove]\nclone = true\n")
    assert ask(stage.house, release.id, "production", "normal", key="run-2").plan.release == release  # its own rehearsal will tell


def test_what_serves_in_production_is_proven_beside_as_well(stage: Stage) -> None:
    assert serving_after(stage.house, stage.house.environment("staging")) == ()
    live = stage.on_staging("1.0.0")
    stage.bring(live, "production")
    assert serving_after(stage.house, stage.house.environment("staging")) == (live,)
    assert serving_after(stage.house, stage.house.environment("production")) == ()
