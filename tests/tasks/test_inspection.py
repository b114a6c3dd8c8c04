"""The inspection as a step, against applications that answer over real http and https."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from delivery.application import Exposition
from delivery.environment import ApprovalPolicy, Environment, Proving, Traffic
from delivery.inspection_settings import KNOWN_PRIVATE, InspectionSettings, InspectionWaiver
from delivery.journal import Ending, Evidence
from delivery.plan import StepKind
from delivery.ports import Token
from delivery.scan import Severity
from tasks import encryption
from tasks.inspection import inspect
from tasks.report import evidence_markdown, rollout_markdown
from tasks.report_inspection import result_of
from tasks.scene import CANCELLED, Scene
from tests.flawed_server import FLAWS, GOOD_HEADERS, Authority, FlawedServer, flawed_server
from tests.samples import a_plan, a_release, an_environment
from tests.simulated_target import SimulatedTarget, VirtualClock
from tests.tasks.test_rollout import World

BLUE = a_release("1.1.0")
WEB = replace(BLUE.services[0], name="web", routes=("/",), metrics=Exposition("/told"))
GREEN = a_release("1.2.0", services=(WEB,), images={"web": BLUE.images["api"]}, smoke=(), load=None, migrations=None, hooks=())
EVERYTHING = InspectionSettings(fails_at=Severity.LOW, private=(*KNOWN_PRIVATE, "/inside"))
IN_A_MONTH = datetime.now(UTC).date() + timedelta(days=30)


def staging(settings: InspectionSettings = EVERYTHING, **changes: object) -> Environment:
    fields: dict[str, object] = {
        "approval": ApprovalPolicy("automatic"),
        "traffic": Traffic(steps=(100,), watch_seconds=0, bake_seconds=0, hold_seconds=0),
        "prove": Proving(smoke=False, inspect=True),
        "inspection": settings,
        "trigger": (),
        **changes,
    }
    return an_environment("staging", **fields)


def scene_of(url: str | None, folder: Path, environment: Environment) -> Scene:
    target = SimulatedTarget(public_url=url)
    plan = a_plan(GREEN, BLUE, target, environment)
    token, stop = Token("staging", "staging-1", 1), threading.Event()
    return Scene(plan, target, None, token, lambda: None, stop, folder, clock=VirtualClock())


def inspected(url: str | None, folder: Path, settings: InspectionSettings = EVERYTHING, **changes: object) -> Evidence:
    scene = scene_of(url, folder, staging(settings, **changes))
    return inspect(next(step for step in scene.plan.forward if step.kind is StepKind.INSPECT), scene)


def rules_of(evidence: Evidence) -> set[str]:
    result = result_of(evidence)
    assert result is not None
    return {finding.rule for finding in result.findings}


# ---- over http


def test_a_sound_application_passes_and_was_asked_everything(tmp_path: Path) -> None:
    with flawed_server() as place:
        evidence = inspected(place.url, tmp_path)
    assert evidence.well, evidence.summary
    assert rules_of(evidence) == set()
    assert {"GET /", "GET /health", "TRACE /", "OPTIONS /", "GET /.env", "GET /inside", "GET /told", "GET /app.js.map"} <= {*place.seen}
    assert evidence.summary == f"inspection: {len(place.seen)} questions, nothing found"


@pytest.mark.parametrize(("flaw", "rule"), FLAWS.items())
def test_each_flaw_of_a_running_application_is_named_and_fails(flaw: str, rule: str, tmp_path: Path) -> None:
    with flawed_server(flaw) as place:
        evidence = inspected(place.url, tmp_path)
    assert not evidence.well
    assert rules_of(evidence) == {rule}
    assert rule in evidence.summary
    assert "s3cret-value" not in str(evidence)
    assert str(evidence.facts["next"]).endswith(f"an [[inspection.waiver]] of {rule} in the environment file.")


def test_only_what_reaches_the_severity_fails_and_the_rest_is_shown(tmp_path: Path) -> None:
    with flawed_server("tells its server") as place:
        evidence = inspected(place.url, tmp_path, InspectionSettings())
    assert evidence.well
    assert rules_of(evidence) == {"server-version"}
    assert "1 low found" in evidence.summary


@pytest.mark.parametrize("flaw", ["front page for everything", "login for everything"])
def test_an_application_that_answers_every_path_alike_has_no_private_path_open(flaw: str, tmp_path: Path) -> None:
    with flawed_server(flaw) as place:
        evidence = inspected(place.url, tmp_path)
    assert evidence.well, evidence.summary


def test_no_redirect_leads_to_another_host(tmp_path: Path) -> None:
    with flawed_server("moved") as place:
        evidence = inspected(place.url, tmp_path)
    assert evidence.well, evidence.summary  # /health is a page that was answered
    assert result_of(evidence) is not None


def test_where_people_approve_only_pages_are_asked_for(tmp_path: Path) -> None:
    with flawed_server(*FLAWS) as place:
        inspected(place.url, tmp_path, approval=ApprovalPolicy("form"))
    assert {*place.seen} == {"GET /", "GET /health"}


@pytest.mark.parametrize(
    ("flaws", "told"),
    [(["silent"], "GET /health was not answered (RemoteProtocolError)"), (["nobody behind"], "GET /metrics answered 503")],
)
def test_what_was_not_answered_is_not_scanned_and_fails_by_name(flaws: list[str], told: str, tmp_path: Path) -> None:
    with flawed_server(*flaws) as place:
        evidence = inspected(place.url, tmp_path)
    assert not evidence.well
    assert evidence.summary == f"inspection was not scanned: {told}"
    result = result_of(evidence)
    assert result is not None
    assert result.verdict == "NOT SCANNED"


def test_who_hangs_up_on_strange_methods_is_asked_everything_else(tmp_path: Path) -> None:
    with flawed_server("hangs up on strange methods") as place:
        evidence = inspected(place.url, tmp_path)
    assert evidence.well, evidence.summary
    assert {"TRACE /", "TRACE /health", "GET /.env"} <= {*place.seen}


def test_each_question_is_asked_by_a_stranger(tmp_path: Path) -> None:
    with flawed_server("login for everything") as place, pytest.MonkeyPatch.context() as patch:
        patch.setitem(GOOD_HEADERS, "Set-Cookie", "session=1; HttpOnly; SameSite=Lax")
        inspected(place.url, tmp_path)
    assert place.recognised == 0


def test_nobody_at_the_address_is_not_scanned(tmp_path: Path) -> None:
    with flawed_server() as place:
        url = place.url
    assert inspected(url, tmp_path).summary == "inspection was not scanned: GET / was not answered (ConnectError)"


def test_an_environment_without_a_public_address_is_not_scanned(tmp_path: Path) -> None:
    evidence = inspected(None, tmp_path)
    assert not evidence.well
    assert "its target has no public_url" in evidence.summary


def test_an_inspection_that_does_not_come_to_its_end_in_time_is_not_scanned(tmp_path: Path) -> None:
    with flawed_server() as place:
        scene = scene_of(place.url, tmp_path, staging())
        step = next(step for step in scene.plan.forward if step.kind is StepKind.INSPECT)
        evidence = inspect(replace(step, deadline_seconds=-1.0), scene)
    assert "questions were left after 0 answers" in evidence.summary
    assert (evidence.well, place.seen) == (False, [])


def test_a_cancelled_rollout_asks_no_more(tmp_path: Path) -> None:
    with flawed_server() as place:
        scene = scene_of(place.url, tmp_path, staging())
        scene.stop.set()
        assert inspect(next(step for step in scene.plan.forward if step.kind is StepKind.INSPECT), scene) == CANCELLED
    assert place.seen == []


# ---- over https


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """One that this machine trusts."""
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.file))
    return made


def test_a_sound_application_over_https_passes(authority: Authority, tmp_path: Path) -> None:
    with flawed_server(tls=authority.context()) as place:
        evidence = inspected(place.url, tmp_path)
    assert evidence.well, evidence.summary
    assert "TRACE /" in place.seen


@pytest.mark.parametrize(
    ("presented", "rule"),
    [
        ({"days": -1}, "certificate-expired"),
        ({"days": 10}, "certificate-ends-soon"),
        ({"name": "other.example"}, "certificate-name"),
        ({"name": "10.0.0.1"}, "certificate-name"),
    ],
)
def test_a_certificate_that_is_no_good_is_named(authority: Authority, presented: dict[str, object], rule: str, tmp_path: Path) -> None:
    with flawed_server(tls=authority.context(**presented)) as place:  # type: ignore[arg-type]
        evidence = inspected(place.url, tmp_path)
    assert not evidence.well
    assert rules_of(evidence) == {rule}


def test_a_certificate_of_an_authority_that_nobody_knows_is_named(tmp_path: Path) -> None:
    with flawed_server("no csp", tls=Authority(tmp_path).context()) as place:
        evidence = inspected(place.url, tmp_path)
    assert rules_of(evidence) == {"certificate-untrusted", "csp"}  # and it hides nothing else


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1 is deprecated")
def test_a_server_that_speaks_old_tls_is_named(authority: Authority, tmp_path: Path) -> None:
    with flawed_server(tls=authority.context(old=True)) as place:
        evidence = inspected(place.url, tmp_path)
    assert rules_of(evidence) == {"old-tls"}
    assert "accepts TLSv1.1" in evidence.summary


@pytest.mark.parametrize(
    ("without", "rule"), [("Strict-Transport-Security", "hsts"), ("Content-Security-Policy", "csp"), ("X-Content-Type-Options", "nosniff")]
)
def test_over_https_a_header_that_is_missing_is_named(authority: Authority, without: str, rule: str, tmp_path: Path) -> None:
    assert without in GOOD_HEADERS
    with flawed_server(tls=authority.context()) as place:
        place.without.add(without)
        assert rule in rules_of(inspected(place.url, tmp_path))


def test_a_cookie_for_plain_http_is_a_finding_over_https_alone(authority: Authority, tmp_path: Path) -> None:
    insecure = {"Set-Cookie": "id=1; HttpOnly; SameSite=Lax"}
    for tls, expected in ((authority.context(), {"cookie-secure"}), (None, set())):
        with flawed_server(tls=tls) as place, pytest.MonkeyPatch.context() as patch:
            patch.setitem(GOOD_HEADERS, "Set-Cookie", insecure["Set-Cookie"])
            assert rules_of(inspected(place.url, tmp_path)) == expected


def test_an_https_address_that_speaks_http_is_not_scanned(tmp_path: Path) -> None:
    with flawed_server() as place:
        evidence = inspected(place.url.replace("http:", "https:"), tmp_path)
    assert evidence.summary.startswith("inspection was not scanned: no connection by TLS 1.2 or newer could be made (")


def test_old_protocols_that_this_machine_cannot_offer_are_not_scanned(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encryption, "_NOT_OURS", ("TLSV1_ALERT_PROTOCOL_VERSION",))
    with flawed_server(tls=authority.context()) as place:
        assert "this machine cannot offer protocols below TLS 1.2" in inspected(place.url, tmp_path).summary


# ---- what is excused


def waived(rule: str, **changes: object) -> InspectionSettings:
    fields: dict[str, object] = {"rule": rule, "reason": "the old page goes in May", "owner": "Ann", "until": IN_A_MONTH}
    return replace(EVERYTHING, waiver=(InspectionWaiver(**{**fields, **changes}),))  # type: ignore[arg-type]


def test_a_waiver_lets_its_finding_pass_and_is_told(tmp_path: Path) -> None:
    with flawed_server("docs") as place:
        evidence = inspected(place.url, tmp_path, waived("private-path", place="GET /docs"))
    assert evidence.well
    result = result_of(evidence)
    assert result is not None
    assert "waived until" in result.waived[0]
    assert evidence.summary.endswith("1 medium found, 1 waived")


def test_a_waiver_of_another_place_excuses_nothing(tmp_path: Path) -> None:
    with flawed_server("docs") as place:
        assert not inspected(place.url, tmp_path, waived("private-path", place="GET /redoc")).well


@pytest.mark.parametrize("flaws", [["docs"], []])
def test_a_waiver_that_has_run_out_fails_even_when_nothing_is_found(flaws: list[str], tmp_path: Path) -> None:
    with flawed_server(*flaws) as place:
        evidence = inspected(place.url, tmp_path, waived("private-path", until=date(2026, 1, 1)))
    assert not evidence.well
    assert (result := result_of(evidence)) is not None
    assert result.verdict == "FAILED"
    assert "private-path" in evidence.summary
    if not flaws:
        assert "ran out on 2026-01-01" in evidence.summary
        assert str(evidence.facts["next"]).startswith("remove the waiver from the environment file")


def test_not_scanned_passes_by_a_waiver_of_that_name_alone(tmp_path: Path) -> None:
    assert not inspected(None, tmp_path, waived("private-path")).well
    evidence = inspected(None, tmp_path, waived("not scanned"))
    assert evidence.well
    assert evidence.summary.startswith("inspection was NOT scanned (its target has no public_url")


# ---- what is kept


def test_findings_stay_with_the_rollout_as_sarif(tmp_path: Path) -> None:
    with flawed_server("docs") as place:
        inspected(place.url, tmp_path, waived("private-path"))
    (run,) = json.loads((tmp_path / "inspection.sarif").read_text())["runs"]
    (result,) = run["results"]
    assert (run["tool"]["driver"]["name"], result["ruleId"]) == ("inspection", "private-path")
    assert result["locations"] == [{"logicalLocations": [{"fullyQualifiedName": "GET /docs"}]}]
    assert "the old page goes in May" in result["suppressions"][0]["justification"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[World, FlawedServer]]:
    with flawed_server() as place:
        yield World(tmp_path, environment=staging(), target=SimulatedTarget(public_url=place.url)), place


def test_a_flawed_release_gives_the_environment_back_by_name(world: tuple[World, FlawedServer]) -> None:
    rollout, place = world
    place.flaws.add("docs")
    closed = rollout.roll_out(rollout.plan(GREEN))

    assert closed.ending is Ending.ROLLED_BACK
    assert closed.message == (
        "Staging is back on v1.1.0. v1.2.0 was turned back: inspection: medium private-path: GET /docs is answered to everybody"
    )
    rollout.assert_consistent()
    report = rollout_markdown(rollout.store.entries(rollout.rollouts[-1]), rollout.store.rollout(rollout.rollouts[-1]))
    assert "## Inspection" in report
    assert "| inspection | FAILED |" in report
    assert "| medium | private-path | GET /docs | is answered to everybody |" in report
    assert "inspection.sarif" in report
    assert "**Next:** route it to nobody" in report


def test_a_sound_release_goes_live_after_it_was_inspected(world: tuple[World, FlawedServer]) -> None:
    rollout, place = world
    assert rollout.roll_out(rollout.plan(GREEN)).ending is Ending.LIVE
    assert place.seen
    report = rollout_markdown(rollout.store.entries(rollout.rollouts[-1]), rollout.store.rollout(rollout.rollouts[-1]))
    assert "| inspection | passed | 0 | 0 | 0 | 0 |" in report


def test_who_approves_for_production_sees_what_was_found(world: tuple[World, FlawedServer]) -> None:
    rollout, place = world
    place.flaws.add("tells its maker")
    rollout.environment = staging(InspectionSettings())
    assert rollout.roll_out(rollout.plan(GREEN)).ending is Ending.LIVE
    asked = evidence_markdown(a_plan(GREEN, BLUE, rollout.target), rollout.store.entries(rollout.rollouts[-1]))
    assert "| low | powered-by | GET / | tells what it is made with (x-powered-by) | do not send x-powered-by |" in asked


def test_it_looks_while_every_user_is_with_green_and_blue_still_waits(world: tuple[World, FlawedServer]) -> None:
    rollout, _ = world
    steps = [step.kind for step in rollout.plan(GREEN).forward]
    assert steps[-3:] == [StepKind.INSPECT, StepKind.PROMOTE, StepKind.DRAIN]
    assert steps.index(StepKind.SHIFT) < steps.index(StepKind.INSPECT)
