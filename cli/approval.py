"""`greenroom approve` and `reject`: a person's word reaches the run that waits for it."""

import sys
import time
from pathlib import Path
from typing import Literal

from blocks.settings import Settings, settings
from blocks.ssh import sign
from cli.journal import open_journal
from cli.live import follow_run
from cli.person import name_of_person, ssh_key
from cli.prefect import open_api
from delivery.approval import PromotionRequest, words_to_break_glass, words_to_sign
from delivery.errors import DeliveryError, InvalidSettings
from deployments.api import FlowRun, PrefectApi

# A request stands in the journal a moment before its run waits for the answer.
PATIENCE_SECONDS = 30.0


def answer_request(
    number: int,
    decision: Literal["approve", "reject", "break-glass"],
    *,
    reason: str,
    person: str | None,
    watch: bool,
    key: Path | None = None,
) -> None:
    """The run writes the answer into the journal itself, so that UI, CLI and API leave the same trace. Where only signatures count the
    approval is signed here, with the person's SSH key; breaking the glass always is.
    """
    if not reason.strip():
        raise InvalidSettings("No reason was given.", next="pass --reason with why, in a few words.")
    who, current = name_of_person(person), settings()
    request = _open_request(current, number)
    answer = {"decision": decision, "approver": who, "reason": reason.strip(), "channel": "cli"}
    if decision == "break-glass" or (decision == "approve" and request.plan.environment.approval.policy == "signed"):
        answer["signature"] = sign(_words(request, reason if decision == "break-glass" else None), key or ssh_key())
    api = open_api(current)
    run = _waiting(api, request.key, number)
    api.resume(run.id, answer)
    said = "Glass broken" if decision == "break-glass" else "Rejected" if decision == "reject" else "Approved"
    said = "Signed and sent" if decision == "approve" and "signature" in answer else said
    print(f"{said} by {who}: request {number}, {request.plan.sentence()}.")
    print(api.link(run.id))
    if watch:
        follow_run(api, run.id)


def print_signature(number: int, *, key: Path | None, breaking_glass_for: str | None = None) -> None:
    """For who answers in the form: what is signed on standard error, its signature on standard output. To break the glass the reason is
    part of what is signed.
    """
    words = _words(_open_request(settings(), number), breaking_glass_for)
    print(words.decode(), end="", file=sys.stderr)
    print(sign(words, key or ssh_key()), end="")


def _words(request: PromotionRequest, breaking_glass_for: str | None) -> bytes:
    if breaking_glass_for is None:
        return words_to_sign(request)
    policy = request.plan.environment.approval
    if not policy.break_glass:
        raise InvalidSettings(
            f"Nobody may break the glass of {request.plan.environment.name}.",
            next="name those who may in approval.break_glass of its environment file, and promote again; else ask who may approve.",
        )
    return words_to_break_glass(request, breaking_glass_for)


def _open_request(current: Settings, number: int) -> PromotionRequest:
    with open_journal(current) as store:
        request = store.request(number)
        if request.closed:
            raise InvalidSettings(
                f"Request {number} is closed: {request.closed}", next="promote the release again: that opens a new request."
            )
        if store.now() >= request.expires_at:
            raise InvalidSettings(
                f"Request {number} expired at {request.expires_at:%Y-%m-%d %H:%M} UTC.",
                next="promote the release again: that opens a new request.",
            )
        return request


def _waiting(api: PrefectApi, run_id: str, number: int) -> FlowRun:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        run = api.run(run_id)
        if run.waits_for_a_person:
            return run
        if run.has_ended or time.monotonic() > deadline:
            raise DeliveryError(
                f"The run of request {number} does not wait for an answer: it is {run.state_name}. {run.message}".strip(),
                next=f"look at it: {api.link(run.id)}",
            )
        time.sleep(1.0)
