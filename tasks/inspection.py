"""Inspecting what users reach, from outside and once: asks, and hands the answers to `delivery/inspection.py`, which decides."""

import logging
import ssl
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import urljoin, urlsplit

import httpx

from delivery.check import CheckResult
from delivery.errors import TransientError
from delivery.gate import Gate
from delivery.inspection import scan_of, unanswered
from delivery.inspection_questions import (
    MOST_PAGES,
    MOST_REQUESTS,
    Answered,
    Question,
    Silent,
    first_questions,
    maps_of,
    next_hop,
    pages_of,
)
from delivery.inspection_settings import TOOL
from delivery.journal import Evidence
from delivery.plan import Step
from delivery.scan import Finding, NotScanned, Scan, Scanned, count_by_severity, worst_first
from tasks.encryption import look_at_encryption
from tasks.kept import keep_sarif
from tasks.report_inspection import facts_of
from tasks.retry import QUICK
from tasks.scene import CANCELLED, Scene

log = logging.getLogger("greenroom.inspection")

TIMEOUT_SECONDS = 10.0
LARGEST_BYTES = 262_144
MOST_HOPS = 3
_HANG_UPS = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError, httpx.CloseError)


class _Interrupted(Exception):  # noqa: N818  not an error: somebody cancels
    """The rollout is cancelled while questions are open."""


def inspect(step: Step, scene: Scene) -> Evidence:
    """Asks the environment's public address, which answers with green by now. Findings that nobody excuses, and what could not be looked
    at, turn the rollout back.
    """
    plan, settings = scene.plan, scene.plan.environment.inspection
    gate, began = settings.gate(datetime.now(UTC).date()), scene.clock.now()
    try:
        scan, asked = _look(step, scene)
    except _Interrupted:
        return CANCELLED
    decision = gate.decide(TOOL, scan, fails_at=settings.fails_at)
    result = CheckResult(
        TOOL,
        passed=decision.passes and not gate.wrong_waivers(),
        seconds=round(scene.clock.now() - began, 2),
        findings=worst_first(scan.findings) if isinstance(scan, Scanned) else (),
        not_scanned=scan.reason if isinstance(scan, NotScanned) else None,
        waived=tuple(waiver.sentence() for waiver in decision.used),
    )
    result = _kept(result, scene, gate)
    facts = facts_of(result, asked=asked, pages_left_out=pages_of(plan.release)[MOST_PAGES:])
    if decision.blind:
        way_out = 'make it possible, or excuse it for a time: an [[inspection.waiver]] of "not scanned" in the environment file.'
        return Evidence(well=False, summary=f"inspection was not scanned: {decision.blind}", facts={**facts, "next": way_out})
    if decision.stopping:
        return Evidence(well=False, summary=_objection(decision.stopping), facts={**facts, "next": _remedy(decision.stopping)})
    if wrong := gate.wrong_waivers():
        way_out = "remove the waiver from the environment file, or give it a new day and a reason."
        return Evidence(well=False, summary=f"inspection: {' '.join(wrong)}", facts={**facts, "next": way_out})
    return Evidence(well=True, summary=_contentment(result, asked), facts=facts)


def _look(step: Step, scene: Scene) -> tuple[Scan, int]:
    """What was found, and how many questions were asked."""
    environment, release = scene.plan.environment, scene.plan.release
    url, until = scene.target.public_url, scene.clock.now() + step.deadline_seconds
    if not url or urlsplit(url).scheme not in ("http", "https"):
        return NotScanned("its target has no public_url, so that nobody knows what users reach"), 0
    encryption = look_at_encryption(url) if urlsplit(url).scheme == "https" else None
    if encryption and encryption.unknown:
        return NotScanned(encryption.unknown), 0
    answers: list[Answered | Silent] = []
    with _client(trusts_any=bool(encryption and encryption.trouble)) as client:
        questions = list(first_questions(release, environment.inspection, provokes=environment.provokes))
        while questions:
            if scene.stop.is_set():
                raise _Interrupted
            if scene.clock.now() > until or len(answers) >= MOST_REQUESTS:
                left = f"{len(questions)} questions were left after {len(answers)} answers and {step.deadline_seconds:g} s"
                return NotScanned(left), len(answers)
            answers.append(answer := _asked(client, url, questions.pop(0)))
            if isinstance(answer, Silent) and unanswered(answer):
                break  # the answer is "not scanned" already; whoever does not answer is not asked a hundred times
            if not questions and environment.provokes:
                known = {one.question for one in answers}
                questions = [one for one in maps_of(answers, url) if one not in known]
    return scan_of(url, answers, encryption, environment.inspection), len(answers)


def _client(*, trusts_any: bool) -> httpx.Client:
    """No proxy stands between, and no redirect is followed unseen. A certificate that is a finding does not hide the other ones."""
    context = ssl.create_default_context()
    if trusts_any:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    nobody = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # a stranger each time
    headers = {"user-agent": "greenroom-inspection", "accept": "text/html,application/json;q=0.9,*/*;q=0.8"}
    return httpx.Client(verify=context, timeout=TIMEOUT_SECONDS, trust_env=False, follow_redirects=False, headers=headers, cookies=nobody)


def _asked(client: httpx.Client, url: str, question: Question) -> Answered | Silent:
    """The answer, after redirects that lead nowhere else. No answer may be chance, and is asked for again."""
    path = question.path
    answer: Answered | Silent = Silent(question, "it was redirected in circles")
    for _ in range(MOST_HOPS + 1):
        answer = _once(client, url, replace(question, path=path))
        answer = replace(answer, question=question)
        hop = next_hop(question, answer.status, answer.header("location"), url=url, at=path) if isinstance(answer, Answered) else None
        if hop is None:
            return answer
        path = hop
    return answer


def _once(client: httpx.Client, url: str, question: Question) -> Answered | Silent:
    def get() -> Answered:
        try:
            return _read(client, url, question)
        except httpx.TransportError as broken:
            raise TransientError(type(broken).__name__, next="look at the release's logs.") from broken

    try:
        return QUICK.call(get)
    except TransientError as silent:
        return Silent(question, silent.what, hung_up=isinstance(silent.__cause__, _HANG_UPS))
    except (httpx.HTTPError, httpx.InvalidURL) as broken:  # an answer that cannot be read is none
        return Silent(question, type(broken).__name__)


def _read(client: httpx.Client, url: str, question: Question) -> Answered:
    """The beginning of the answer; a server that trickles does not keep us."""
    until = time.monotonic() + TIMEOUT_SECONDS
    with client.stream(question.method, urljoin(url, question.path), headers=list(question.headers)) as answer:
        body = bytearray()
        for chunk in answer.iter_bytes():
            body += chunk
            if len(body) > LARGEST_BYTES:
                break
            if time.monotonic() > until:
                raise httpx.ReadTimeout("trickles")
        text = bytes(body[:LARGEST_BYTES]).decode("utf-8", "replace")
        return Answered(question, answer.status_code, tuple(answer.headers.multi_items()), text)


def _kept(result: CheckResult, scene: Scene, gate: Gate) -> CheckResult:
    """With its SARIF among the rollout's files; a disk that is full is no reason to turn back."""
    try:
        written = keep_sarif(result, scene.folder, gate=gate, commit=str(scene.plan.release.sha))
    except OSError as broken:
        log.warning("The inspection's SARIF could not be kept (%s)", type(broken).__name__)
        return result
    return replace(result, kept=(written,)) if written else result


def _objection(stopping: Sequence[Finding]) -> str:
    worst = worst_first(tuple(stopping))
    more = f" (and {len(worst) - 1} more)" if worst[1:] else ""
    return f"inspection: {worst[0].severity} {worst[0].rule}: {worst[0].place} {worst[0].message}{more}"


def _remedy(stopping: Sequence[Finding]) -> str:
    worst = worst_first(tuple(stopping))[0]
    return f"{worst.fix}; or excuse it for a time: an [[inspection.waiver]] of {worst.rule} in the environment file."


def _contentment(result: CheckResult, asked: int) -> str:
    if result.not_scanned is not None:
        return f"inspection was NOT scanned ({result.not_scanned}); {'; '.join(result.waived)}"
    waived = f", {len(result.waived)} waived" if result.waived else ""
    return f"inspection: {asked} questions, {count_by_severity(result.findings)} found{waived}"
