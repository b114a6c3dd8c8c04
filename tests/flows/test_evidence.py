"""The chain of a release: whole when everything was done, broken at the place where anybody changed it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import create_engine, text

from cli.main import run
from delivery.approval import Approval, PromotionRequest
from delivery.check import CheckResult
from delivery.release import Release
from flows.assembly import House, blocks_from
from flows.promote import carry_out, plan_for
from flows.signing import sign_tests
from flows.telling import Telling
from flows.trust import policy_of
from tasks.chain import Finding, examine
from tests.flows.conftest import Stage
from tests.signing import AT, REPOSITORY, Keyring, provenance

pytestmark = pytest.mark.processes

CHECKS = (CheckResult("ruff", passed=True, seconds=0.1), CheckResult("pytest", passed=True, seconds=3))


@pytest.fixture
def keyring(stage: Stage) -> Keyring:
    keyring = Keyring.made_in(stage.environments)
    stage.house.blocks._blocks["signing-key", "default"] = keyring.mine  # type: ignore[attr-defined]
    file = stage.environments / "production.toml"
    file.write_text(file.read_text().replace("[provenance]\nrequired = false\n", f'[provenance]\nrepository = "{REPOSITORY}"\n'))
    return keyring


@pytest.fixture
def approved(stage: Stage, keyring: Keyring) -> Release:
    """A release that was tested, signed, live on staging, approved and brought to production."""
    release = stage.published("1.0.0")
    for service in release.services:
        stage.house.store.keep_envelope(release.id, keyring.signed(provenance(release, service.name)))
    sign_tests(stage.house, release, CHECKS, CheckResult("playwright", passed=True, seconds=9))
    stage.bring(release, "staging")
    with Telling() as telling:
        carry_out(stage.house, request_for(stage, release), telling, approved_by=("Bea",))
    return release


def request_for(stage: Stage, release: Release) -> PromotionRequest:
    store = stage.house.store
    plan = plan_for(stage.house, release, stage.house.environment("production"), "normal")
    request = store.open_request(plan, key="a test", expires_at=store.now() + timedelta(hours=1))
    store.decide(request.number, Approval("Bea", "approve", "staging looked right", "cli", AT))
    return request  # as a run holds it that asked before anybody had answered


def findings(stage: Stage, release: Release) -> list[Finding]:
    house = stage.house
    production = house.environment("production")
    policy = policy_of(house, production)
    return list(examine(release, policy, production.image, store=house.store, keys=house.keys(), registry=None))


def broken(stage: Stage, release: Release) -> list[str]:
    return [f"{one.stage} {one.about}: {one.what}" for one in findings(stage, release) if not one.well]


def in_the_database(stage: Stage, statement: str) -> None:
    """What somebody does who reaches the journal's database."""
    engine = create_engine(stage.house.settings.database_url.get_secret_value())
    with engine.begin() as connection:
        assert connection.execute(text(statement)).rowcount
    engine.dispose()


def test_the_whole_chain_of_an_approved_release_holds(stage: Stage, approved: Release) -> None:
    found = findings(stage, approved)
    assert [(one.stage, one.about, one.well, one.signed_by) for one in found] == [
        ("provenance", "api", True, "release.pub"),
        ("provenance", "worker", True, "release.pub"),
        ("tests", "", True, "release.pub"),
        ("end to end", "", True, "release.pub"),
        ("rollout", "staging", True, "release.pub"),
        ("approval", "production", True, "release.pub"),
        ("rollout", "production", True, "release.pub"),
    ]
    assert found[2].what == "pytest passed in 3.0 s; ruff passed in 0.1 s"
    assert found[5].what == "request 1: Bea: staging looked right"
    assert found[6].what == "production-1: Production runs v1.0.0."


def test_the_same_images_under_other_settings_stand_on_the_chain_of_their_build_and_go_on_with_it(stage: Stage, approved: Release) -> None:
    record = stage.bring(approved.with_settings(2), "production", "config")
    assert record.release == f"{approved.id}-r2"
    found = findings(stage, approved)
    assert broken(stage, approved) == []
    assert [one.what for one in found if one.stage == "rollout"][-1] == "production-2: Production runs v1.0.0."
    assert findings(stage, approved.with_settings(2)) == found


def test_a_release_about_which_nothing_was_signed_has_no_chain(stage: Stage, keyring: Keyring) -> None:
    del keyring
    del stage.house.blocks._blocks["signing-key", "default"]  # type: ignore[attr-defined]
    release = stage.on_staging("1.0.0")
    assert broken(stage, release) == [
        "provenance api: nobody signed where it comes from",
        "provenance worker: nobody signed where it comes from",
        "tests : nothing was signed",
        "end to end : nothing was signed",
        "rollout staging: nothing was signed about staging-1",
    ]


@pytest.mark.parametrize(
    ("deed", "found"),
    [
        ("DELETE FROM envelopes WHERE number = 1", "provenance api: "),
        ("DELETE FROM envelopes WHERE number = 3", "chain envelope 3: What was signed before it is gone."),
        ("DELETE FROM envelopes WHERE number = 7", "rollout production: nothing was signed about production-1"),
        ("UPDATE envelopes SET document = replace(document, 'a', 'b') WHERE number = 3", "chain envelope 3: "),
        ("UPDATE approvals SET person = 'Mallory'", "approval production: request 1 in the journal is not what was signed"),
        ("DELETE FROM approvals", "approval production: request 1 in the journal is not what was signed"),
        ("UPDATE rollouts SET message = 'all is well' WHERE environment = 'production'", "rollout production: The end of rollout"),
        ("UPDATE entries SET fence = fence + 1 WHERE rollout = 'production-1' AND sequence = 2", "rollout production: "),
    ],
)
def test_whatever_is_changed_in_the_journal_breaks_the_chain(stage: Stage, approved: Release, deed: str, found: str) -> None:
    in_the_database(stage, deed)
    assert any(one.startswith(found) for one in broken(stage, approved)), broken(stage, approved)


def test_a_journal_rewritten_from_its_first_entry_on_does_not_fit_what_was_signed(stage: Stage, approved: Release) -> None:
    """Who may write to the database can make a chain of hashes that fits; the signature is over its end."""
    stage.house.store.verify_chain = lambda _rollout: None  # type: ignore[method-assign]
    in_the_database(stage, "UPDATE entries SET hash = 'anew' WHERE rollout = 'production-1' AND kind = 'Closed'")
    assert broken(stage, approved) == ["rollout production: production-1 in the journal is not what was signed"]


def test_the_links_of_another_release_prove_nothing_about_this_one(stage: Stage, approved: Release) -> None:
    other = stage.published("1.1.0")
    in_the_database(stage, "UPDATE envelopes SET release_id = (SELECT id FROM releases WHERE version = '1.1.0')")
    assert "chain envelope 3: It is about another release, or about other images." in broken(stage, other)
    assert "tests : nothing was signed" in broken(stage, other)
    assert "tests : nothing was signed" in broken(stage, approved)


def test_signed_by_a_key_that_is_no_longer_trusted_nothing_holds(stage: Stage, approved: Release, keyring: Keyring) -> None:
    (keyring.folder / "release.pub").write_bytes(keyring.stranger.public_pem())
    assert all(not one.well for one in findings(stage, approved))


def test_signing_again_adds_nothing(stage: Stage, approved: Release) -> None:
    before = stage.house.store.envelopes(approved.id)
    sign_tests(stage.house, approved, CHECKS, CheckResult("playwright", passed=True, seconds=9))
    assert stage.house.store.envelopes(approved.id) == before


def test_a_key_that_cannot_sign_keeps_no_rollout_from_going_live(stage: Stage, keyring: Keyring, caplog: pytest.LogCaptureFixture) -> None:
    assert keyring.mine.file is not None
    keyring.mine.file.chmod(0o644)
    release = stage.on_staging("1.0.0")
    assert stage.targets["staging"].live == release.id
    assert "The rollout of v1.0.0-" in caplog.text


@pytest.fixture
def at_a_terminal(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def opened() -> Iterator[House]:
        with blocks_from(stage.house.blocks):
            yield stage.house

    monkeypatch.setattr("cli.evidence.open_local_house", opened)


@pytest.mark.usefixtures("at_a_terminal")
def test_the_command_shows_the_chain_and_ends_with_1_when_it_is_broken(
    stage: Stage, approved: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evidence", "v1.0.0"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{approved.id}, as production judges it: the chain is whole\n  ok      provenance api ")
    assert run(["evidence", approved.id, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["release"], document["whole"], len(document["evidence"])) == (approved.id, True, 7)
    in_the_database(stage, "UPDATE approvals SET reason = 'because'")
    assert run(["evidence", "v1.0.0", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["whole"] is False
    assert run(["evidence", "v9.9.9"]) == 2
