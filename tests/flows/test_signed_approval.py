"""Where only signatures count, the rollout itself looks at them: nothing that a forged call to Prefect's API or to the journal can do
starts anything in production.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Running

from blocks.ssh import sign
from cli.main import run
from delivery.approval import Approval, Granted, Pending, PromotionRequest, words_to_sign
from delivery.errors import NotApproved
from delivery.journal import Ending
from delivery.plan import plan_rollout
from delivery.record import RolloutRecord
from delivery.release import Release
from deployments.api import PrefectApi
from flows.promote import ApprovalForm, SignedApprovalForm, _write_down, ask, carry_out, promote
from flows.rollback import go_back
from flows.rollout import run_rollout
from flows.telling import Telling
from flows.trust import decision_on
from tests.flows.conftest import Stage
from tests.flows.test_gate import Runs
from tests.people import Person, allow
from tests.prefect_stage import prefect_server

pytestmark = pytest.mark.processes
AT = datetime(2026, 7, 1, tzinfo=UTC)


@dataclass
class Board:
    """A production that takes signatures only, and the people whose count: Bea, Cem, and Ann, who writes the code."""

    stage: Stage
    people: dict[str, Person]
    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "allowed_signers"

    def ask(self, release: Release) -> PromotionRequest:
        return ask(self.stage.house, release.id, "production", "normal", key=f"run of {release.id}")

    def answer(self, request: PromotionRequest, typed: str, signature: str) -> PromotionRequest:
        form = SignedApprovalForm(decision="approve", approver=typed, reason="fine", channel="api", signature=signature)
        return _write_down(self.stage.house, request, form)

    def signed(self, request: PromotionRequest, name: str) -> PromotionRequest:
        return self.answer(request, name, self.people[name].signs(words_to_sign(request)))

    def carry_out(self, request: PromotionRequest) -> RolloutRecord:
        with Telling() as telling:
            return carry_out(self.stage.house, request, telling, approved_by=("somebody",))

    def require_refused(self, request: PromotionRequest, why: str) -> None:
        """Whatever has let the run past its gate, the rollout does not begin."""
        with pytest.raises(NotApproved, match=why):
            self.carry_out(request)
        assert self.stage.production.acts == []
        assert self.stage.house.store.rollouts(environment="production") == []


@pytest.fixture
def board(stage: Stage, tmp_path: Path) -> Board:
    file = stage.environments / "production.toml"
    file.write_text(file.read_text().replace('policy = "form"', 'policy = "signed"').replace('automatic_for = ["hotfix"]\n', ""))
    keys = tmp_path / "people"
    keys.mkdir()
    people = {name: Person.with_key(name, keys) for name in ("Bea", "Cem", "Ann", "Mallory")}
    board = Board(stage, people, stage.environments / "keys")
    allow(board.file, people["Bea"], people["Cem"], people["Ann"])
    return board


def test_a_signed_approval_brings_the_release_live(board: Board) -> None:
    request = board.signed(board.ask(board.stage.on_staging("1.0.0")), "Bea")
    assert board.carry_out(request).ending is Ending.LIVE


def test_what_is_signed_names_release_images_environment_plan_and_expiry(board: Board) -> None:
    request = board.ask(board.stage.on_staging("1.0.0"))
    release = request.plan.release
    assert words_to_sign(request).decode().splitlines() == [
        "greenroom approval v1",
        "request 1",
        f"release {release.id}",
        "environment production",
        f"image api {release.images['api']}",
        f"image worker {release.images['worker']}",
        f"plan {request.plan_hash}",
        f"expires {request.expires_at:%Y-%m-%dT%H:%M:%SZ}",
    ]


def test_a_name_without_a_signature_is_not_written_down(board: Board) -> None:
    request = board.answer(board.ask(board.stage.on_staging("1.0.0")), "Bea", "")
    assert request.approvals == ()
    board.require_refused(request, "request 1 has no valid signature of enough people")


def test_a_strangers_signature_under_a_known_name_does_not_count(board: Board) -> None:
    request = board.ask(board.stage.on_staging("1.0.0"))
    request = board.answer(request, "Bea", board.people["Mallory"].signs(words_to_sign(request)))
    assert request.approvals == ()
    board.require_refused(request, "no valid signature")


def test_the_person_is_whose_key_it_is_and_not_who_was_typed(board: Board) -> None:
    request = board.ask(board.stage.on_staging("1.0.0"))
    request = board.answer(request, "the CEO", board.people["Bea"].signs(words_to_sign(request)))
    assert decision_on(board.stage.house, request) == Granted(("Bea",))
    assert [word.person for word in request.approvals] == ["Bea"]


def test_a_signature_for_another_release_does_not_count(board: Board) -> None:
    first = board.ask(board.stage.on_staging("1.0.0"))
    replayed = board.people["Bea"].signs(words_to_sign(first))
    second = board.answer(board.ask(board.stage.on_staging("1.1.0")), "Bea", replayed)
    board.require_refused(second, "request 2 has no valid signature")


def test_a_signature_from_an_earlier_request_for_the_same_release_does_not_count(board: Board) -> None:
    release = board.stage.on_staging("1.0.0")
    first = board.ask(release)
    replayed = board.people["Bea"].signs(words_to_sign(first))
    second = ask(board.stage.house, release.id, "production", "normal", key="another run")
    board.require_refused(board.answer(second, "Bea", replayed), "request 2 has no valid signature")


def test_a_row_that_somebody_wrote_into_the_journal_does_not_count(board: Board) -> None:
    request = board.ask(board.stage.on_staging("1.0.0"))
    store = board.stage.house.store
    request = store.decide(request.number, Approval("Bea", "approve", "forged", "cli", AT))
    request = store.decide(request.number, Approval("Cem", "approve", "forged", "cli", AT, board.people["Mallory"].signs(b"anything")))
    assert decision_on(board.stage.house, request) == Pending(1)
    board.require_refused(request, "no valid signature")


def test_one_signature_under_two_names_is_one_person(board: Board) -> None:
    file = board.stage.environments / "production.toml"
    file.write_text(file.read_text().replace("quorum = 1", "quorum = 2"))
    request, store = board.ask(board.stage.on_staging("1.0.0")), board.stage.house.store
    signature = board.people["Bea"].signs(words_to_sign(request))
    for name in ("Bea", "Cem"):
        request = store.decide(request.number, Approval(name, "approve", "copied", "cli", AT, signature))
    board.require_refused(request, "no valid signature of enough people")


def test_an_approval_that_has_expired_begins_nothing(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    request = board.signed(board.ask(board.stage.on_staging("1.0.0")), "Bea")
    now = type(board.stage.house.store).now
    monkeypatch.setattr(type(board.stage.house.store), "now", lambda store: now(store) + timedelta(hours=3))
    board.require_refused(request, "request 1 expired at")


def test_a_closed_request_begins_nothing(board: Board) -> None:
    request = board.signed(board.ask(board.stage.on_staging("1.0.0")), "Bea")
    board.stage.house.store.close_request(request.number, "changed our mind")
    board.require_refused(request, "request 1 is closed: changed our mind")


def test_another_plan_than_the_one_that_was_signed_begins_nothing(board: Board) -> None:
    request = board.signed(board.ask(board.stage.on_staging("1.0.0")), "Bea")
    plan = replace(request.plan, forward=tuple(step for step in request.plan.forward if step.kind != "check"))
    with Telling() as telling, pytest.raises(NotApproved, match="nobody was asked about this very plan"):
        run_rollout(board.stage.house, plan, by="forger", telling=telling)
    assert board.stage.production.acts == []


def test_a_rollout_without_any_request_begins_nothing(board: Board) -> None:
    release = board.stage.on_staging("1.0.0")
    environment = board.stage.house.environment("production")
    plan = plan_rollout(release, environment, capabilities=board.stage.production.capabilities, blue=None)
    with Telling() as telling, pytest.raises(NotApproved, match="nobody was asked about this very plan"):
        run_rollout(board.stage.house, plan, by="forger", telling=telling)
    assert board.stage.production.acts == []


def test_the_author_s_signature_does_not_count(board: Board) -> None:
    request = board.signed(board.ask(board.stage.on_staging("1.0.0")), "Ann")
    assert decision_on(board.stage.house, request) == Pending(1)
    board.require_refused(request, "no valid signature")


def test_a_person_with_two_keys_is_one_of_two(board: Board, tmp_path: Path) -> None:
    file = board.stage.environments / "production.toml"
    file.write_text(file.read_text().replace("quorum = 1", "quorum = 2"))
    second_key = Person.with_key("Bea", tmp_path)
    allow(board.file, board.people["Bea"], second_key, board.people["Cem"])
    request = board.signed(board.ask(board.stage.on_staging("1.0.0")), "Bea")
    request = board.answer(request, "Bea the second", second_key.signs(words_to_sign(request)))
    assert decision_on(board.stage.house, request) == Pending(1)
    assert decision_on(board.stage.house, board.signed(request, "Cem")) == Granted(("Bea", "Cem"))


def test_who_is_taken_out_of_the_file_before_the_promotion_counts_no_longer(board: Board) -> None:
    board.carry_out(board.signed(board.ask(board.stage.on_staging("1.0.0")), "Bea"))
    request = board.signed(board.ask(board.stage.on_staging("1.1.0")), "Bea")

    def leave(verb: str, when: str) -> None:
        if verb.startswith("shift") and when == "after":
            allow(board.file, board.people["Cem"])

    board.stage.production.spoil = leave
    record = board.carry_out(request)
    assert record.ending is Ending.ROLLED_BACK
    assert "promote failed: Production does not take v1.1.0-" in str(record.message)


def test_going_back_asks_for_no_signature(board: Board) -> None:
    for version in ("1.0.0", "1.1.0"):
        board.carry_out(board.signed(board.ask(board.stage.on_staging(version)), "Bea"))
    allow(board.file)
    with Telling() as telling:
        assert go_back(board.stage.house, "production", version=None, reason="sick", by="Cem", telling=telling).ending is Ending.LIVE


def test_the_form_of_an_environment_that_asks_for_no_signature_has_no_field_for_it() -> None:
    assert "signature" not in ApprovalForm.model_fields


@contextmanager
def runs_on(stage: Stage) -> Iterator[Runs]:
    server = prefect_server()
    with temporary_settings({PREFECT_API_URL: server.api_url}), get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(promote), name="promote")
        yield Runs(client, PrefectApi(server.api_url), stage, deployment)


@pytest.mark.prefect
def test_a_run_that_is_set_to_running_and_one_that_is_resumed_with_made_up_input_start_nothing(board: Board) -> None:
    with runs_on(board.stage) as runs:
        run_id = runs.ask(board.stage.on_staging("1.0.0"))
        runs.client.set_flow_run_state(run_id, Running(), force=True)
        assert runs.go_on(run_id).waits_for_a_person
        runs.api.resume(run_id, {"decision": "approve", "approver": "Bea", "reason": "I say so", "signature": "trust me"})
        assert runs.go_on(run_id).waits_for_a_person
        assert board.stage.production.acts == []
        request = board.stage.house.store.request(1)
        signature = sign(words_to_sign(request), board.people["Bea"].key)
        runs.api.resume(run_id, {"decision": "approve", "approver": "anybody", "reason": "seen", "signature": signature})
        run = runs.go_on(run_id)
        assert (run.state, run.message) == ("COMPLETED", "Production runs v1.0.0.")
        (record,) = board.stage.house.store.rollouts(environment="production")
        assert record.by == "Bea"


@pytest.mark.prefect
def test_a_person_signs_at_the_terminal(board: Board, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with runs_on(board.stage) as runs:
        monkeypatch.setenv("PREFECT_API_URL", runs.api.ui_url + "/api")
        run_id = runs.ask(board.stage.on_staging("1.0.0"))
        assert run(["approve", "1", "--print", "--key", str(board.people["Bea"].key)]) == 0
        assert capsys.readouterr().out.startswith("-----BEGIN SSH SIGNATURE-----\n")
        assert run(["approve", "1", "--reason", "seen", "--as", "Bea", "--key", str(board.people["Bea"].key)]) == 0
        assert "Signed and sent by Bea: request 1" in capsys.readouterr().out
        assert runs.go_on(run_id).state == "COMPLETED"
