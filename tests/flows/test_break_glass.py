"""Breaking the glass: one person, alone, past quorum and go/no-go rules; signed, with a reason, loud, and never past what an image is."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from blocks.journal import SqlJournal
from cli.main import run
from delivery.approval import Approval, Granted, Pending, PromotionRequest, words_to_break_glass, words_to_sign
from delivery.dsse import NotProven
from delivery.errors import InvalidSettings, NotApproved
from delivery.journal import Ending
from delivery.record import RolloutRecord
from flows.promote import ApprovalForm, BreakGlassForm, _write_down, ask, carry_out, form_of, gate
from flows.telling import Telling
from flows.trust import decision_on
from tests.flows.conftest import Stage
from tests.people import Person, allow
from tests.signing import AT, REPOSITORY, Keyring

pytestmark = pytest.mark.processes
REASON = "orders are lost since noon"
FREEZE = '[[go.freeze]]\nstarts = "2020-01-01T00:00:00Z"\nends = "2999-01-01T00:00:00Z"\nreason = "audit"\n'


@dataclass
class Board:
    """A frozen production that wants two approvals, where Bea alone may break the glass."""

    stage: Stage
    people: dict[str, Person]
    folder: Path

    def ask(self, version: str) -> PromotionRequest:
        release = self.stage.on_staging(version)
        return ask(self.stage.house, release.id, "production", "normal", key=f"run of {release.id}")

    def broken(self, request: PromotionRequest, name: str, *, reason: str = REASON, signed: bytes | None = None) -> PromotionRequest:
        message = words_to_break_glass(request, REASON) if signed is None else signed
        signature = self.people[name].signs(message)
        form = BreakGlassForm(decision="break-glass", approver=name, reason=reason, channel="api", signature=signature)
        return _write_down(self.stage.house, request, form)

    def carry_out(self, request: PromotionRequest) -> RolloutRecord:
        with Telling() as telling:
            return carry_out(self.stage.house, request, telling, approved_by=gate(self.stage.house, request, telling))

    def require_unbroken(self, request: PromotionRequest) -> None:
        """Whoever carries it out all the same meets the rules."""
        assert isinstance(decision_on(self.stage.house, request), Pending)
        with pytest.raises(NotApproved), Telling() as telling:
            carry_out(self.stage.house, request, telling, approved_by=("somebody",))
        assert self.stage.production.acts == []


@pytest.fixture(params=["form", "signed"])
def board(stage: Stage, tmp_path: Path, request: pytest.FixtureRequest) -> Board:
    file = stage.environments / "production.toml"
    text = file.read_text().replace('policy = "form"', f'policy = "{request.param}"').replace('automatic_for = ["hotfix"]\n', "")
    file.write_text(text.replace("quorum = 1", 'quorum = 2\nbreak_glass = "emergency_signers"') + FREEZE)
    keys = tmp_path / "people"
    keys.mkdir()
    people = {name: Person.with_key(name, keys) for name in ("Bea", "Cem")}
    board = Board(stage, people, stage.environments / "keys")
    allow(board.folder / "allowed_signers", people["Bea"], people["Cem"])
    allow(board.folder / "emergency_signers", people["Bea"])
    return board


def test_one_person_brings_a_release_past_the_quorum_and_a_freeze_and_everybody_is_told_before_the_first_act(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = board.broken(board.ask("1.0.0"), "Bea")
    assert decision_on(board.stage.house, request) == Granted(("Bea",), glass=REASON)
    told: list[str] = []
    put, before_the_first_act = type(board.stage.house.store).put_notice, []

    def listen(store: SqlJournal, key: str, text: str, link: str | None, *, once: bool = False) -> None:
        told.append(text)
        put(store, key, text, link, once=once)

    def look(_verb: str, _when: str) -> None:
        if not before_the_first_act:
            before_the_first_act.extend(told)

    monkeypatch.setattr(type(board.stage.house.store), "put_notice", listen)
    board.stage.production.spoil = look
    record = board.carry_out(request)
    assert (record.ending, record.by) == (Ending.LIVE, "Bea (broke the glass)")
    (loud,) = [text for text in before_the_first_act if text.startswith("THE GLASS WAS BROKEN")]
    assert loud == (
        "THE GLASS WAS BROKEN. Bea brings v1.0.0 to production by request 1, "
        f"past NO GO, freeze: audit, until 2999-01-01T00:00:00+00:00. Reason: {REASON}"
    )


def test_the_audit_says_who_broke_the_glass_and_why(board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    board.carry_out(board.broken(board.ask("1.0.0"), "Bea"))
    assert run(["audit", "verify", "--environment", "production"]) == 0
    told = capsys.readouterr().out
    assert f"break-glass by Bea through api: {REASON}" in told
    assert "opened by Bea (broke the glass): " in told


def test_the_author_may_break_the_glass(board: Board, tmp_path: Path) -> None:
    board.people["Ann"] = Person.with_key("Ann", tmp_path)  # who writes the code, see test_signed_approval
    allow(board.folder / "emergency_signers", board.people["Ann"])
    assert board.carry_out(board.broken(board.ask("1.0.0"), "Ann")).ending is Ending.LIVE


def test_who_is_not_in_the_file_breaks_nothing(board: Board) -> None:
    board.require_unbroken(board.broken(board.ask("1.0.0"), "Cem"))


@pytest.mark.parametrize(
    "signed",
    [
        pytest.param(words_to_sign, id="an approval"),
        pytest.param(lambda request: words_to_break_glass(request, "another reason"), id="another reason"),
        pytest.param(lambda _: b"greenroom break-glass v1\nrequest 1\n", id="less than all"),
    ],
)
def test_a_signature_of_something_else_breaks_nothing(board: Board, signed: Callable[[PromotionRequest], bytes]) -> None:
    request = board.ask("1.0.0")
    board.require_unbroken(board.broken(request, "Bea", signed=signed(request)))


def test_a_signature_for_an_earlier_request_breaks_nothing(board: Board) -> None:
    replayed = words_to_break_glass(board.ask("1.0.0"), REASON)
    board.require_unbroken(board.broken(board.ask("1.1.0"), "Bea", signed=replayed))


def test_a_row_that_somebody_wrote_into_the_journal_breaks_nothing(board: Board) -> None:
    request, at = board.ask("1.0.0"), datetime(2026, 7, 1, tzinfo=UTC)
    for name, reason in (("Bea", REASON), ("Cem", "")):
        board.stage.house.store.decide(request.number, Approval(name, "break-glass", reason, "api", at, "forged"))
    board.require_unbroken(board.stage.house.store.request(request.number))


@pytest.mark.parametrize("reason", ["", "  ", "postgresql://app:hunter2hunter2@db/app is full"])
def test_without_a_reason_or_with_one_that_cannot_be_kept_there_is_nothing_to_sign(board: Board, reason: str) -> None:
    request = board.ask("1.0.0")
    with pytest.raises(InvalidSettings, match="not broken without a reason"):
        words_to_break_glass(request, reason)
    board.require_unbroken(board.broken(request, "Bea", reason=reason))


def test_who_was_taken_out_of_the_file_breaks_nothing_any_longer(board: Board) -> None:
    request = board.broken(board.ask("1.0.0"), "Bea")
    allow(board.folder / "emergency_signers", board.people["Cem"])
    board.require_unbroken(request)


def test_a_rejection_beats_a_broken_glass(board: Board) -> None:
    request = board.broken(board.ask("1.0.0"), "Bea")
    board.stage.house.store.decide(request.number, Approval("Cem", "reject", "no", "api", AT))
    with pytest.raises(NotApproved, match="Cem rejected it: no"):
        board.carry_out(board.stage.house.store.request(request.number))


def test_an_image_that_nobody_signed_is_refused_all_the_same(board: Board) -> None:
    file = board.stage.environments / "production.toml"
    file.write_text(file.read_text().replace("[provenance]\nrequired = false\n", f'[provenance]\nrepository = "{REPOSITORY}"\n'))
    Keyring.made_in(board.stage.environments)
    request = board.broken(board.ask("1.0.0"), "Bea")
    with pytest.raises(NotProven, match="nobody signed where it comes from"):
        board.carry_out(request)
    assert board.stage.production.acts == []


def test_a_changed_world_is_refused_all_the_same(board: Board) -> None:
    first, second = board.ask("1.0.0"), board.ask("1.1.0")
    board.carry_out(board.broken(first, "Bea"))
    with pytest.raises(NotApproved, match=r"v1\.0\.0 is live now, and the approval was given while nothing was"):
        board.carry_out(board.broken(second, "Bea"))


def test_where_nobody_may_break_the_glass_there_is_no_such_answer(stage: Stage) -> None:
    request = ask(stage.house, stage.on_staging("1.0.0").id, "production", "normal", key="a run")
    assert form_of(request) is ApprovalForm
    answered = _write_down(stage.house, request, ApprovalForm(decision="break-glass", approver="Bea", reason=REASON, channel="api"))
    assert answered.approvals == ()
    assert isinstance(decision_on(stage.house, answered), Pending)


def test_the_terminal_says_so_where_nobody_may(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    ask(stage.house, stage.on_staging("1.0.0").id, "production", "normal", key="a run")
    assert run(["approve", "1", "--break-glass", "--print", "--reason", REASON]) == 2
    assert "Nobody may break the glass of production." in capsys.readouterr().err


def test_the_terminal_prints_the_signature_of_the_reason(board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    request = board.ask("1.0.0")
    assert run(["approve", "1", "--break-glass", "--print", "--reason", REASON, "--key", str(board.people["Bea"].key)]) == 0
    told = capsys.readouterr()
    assert f"reason {REASON}\n" in told.err
    form = BreakGlassForm(decision="break-glass", approver="anybody", reason=REASON, channel="ui", signature=told.out)
    assert isinstance(decision_on(board.stage.house, _write_down(board.stage.house, request, form)), Granted)
