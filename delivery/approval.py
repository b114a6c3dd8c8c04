"""Who may say yes, and whether they have."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from delivery.application import STRICT
from delivery.environment import ApprovalPolicy, Kind
from delivery.plan import Plan


@dataclass(frozen=True)
class Approval:
    """One person's word on one request. `channel` is where it came from: ui, cli, api or policy; `signature` is by their SSH key."""

    __pydantic_config__ = STRICT

    person: str
    decision: Literal["approve", "reject"]
    reason: str
    channel: str
    at: datetime
    signature: str = ""


@dataclass(frozen=True)
class PromotionRequest:
    """A numbered wish to promote a release: the plan as it was frozen, bound by its hash.

    `key` is whose wish it is (the id of the flow run that waits); `closed` says why it no longer counts.
    """

    number: int
    key: str
    plan: Plan
    plan_hash: str
    opened_at: datetime
    expires_at: datetime
    approvals: tuple[Approval, ...] = ()
    closed: str | None = None


@dataclass(frozen=True)
class Pending:
    missing: int


@dataclass(frozen=True)
class Granted:
    by: tuple[str, ...]


@dataclass(frozen=True)
class Refused:
    by: str
    reason: str


@dataclass(frozen=True)
class Expired:
    at: datetime


Decision = Pending | Granted | Refused | Expired


def decide(
    policy: ApprovalPolicy, approvals: Iterable[Approval], *, kind: Kind, author: str, expires_at: datetime, now: datetime
) -> Decision:
    """What the approvals so far amount to.

    A rejection beats any number of approvals; the quorum counts distinct persons (names are compared without case or surrounding
    space); the author of the release does not count unless the policy lets them; nothing counts that was given after the expiry.
    """
    in_time = [approval for approval in approvals if approval.at < expires_at]
    for approval in in_time:
        if approval.decision == "reject":
            return Refused(approval.person, approval.reason)
    if policy.policy == "automatic" or kind in policy.automatic_for:
        return Granted(("policy",))
    persons = {_same(approval.person): approval.person for approval in in_time}
    if not policy.author_may_approve:
        persons.pop(_same(author), None)
    if len(persons) >= policy.quorum:
        return Granted(tuple(persons[key] for key in sorted(persons)))
    if now >= expires_at:
        return Expired(expires_at)
    return Pending(policy.quorum - len(persons))


def words_to_sign(request: PromotionRequest) -> bytes:
    """What a person signs to approve a request, readable: these images, this plan, here, until then, and nothing else."""
    plan = request.plan
    images = [f"image {service.name} {plan.release.images[service.name]}" for service in plan.release.services]
    lines = [
        "greenroom approval v1",
        f"request {request.number}",
        f"release {plan.release.id}",
        f"environment {plan.environment.name}",
        *images,
        f"plan {request.plan_hash}",
        f"expires {request.expires_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
    ]
    return ("\n".join(lines) + "\n").encode()


def signed_words(request: PromotionRequest, signer_of: Callable[[bytes, str], str | None]) -> tuple[Approval, ...]:
    """The words that count where only signatures do: each rejection, and each approval whose signature is somebody's, under that person's
    name, whatever name was typed. `signer_of` tells whose signature of a message it is.
    """
    message = words_to_sign(request)
    counting = []
    for word in request.approvals:
        person = signer_of(message, word.signature) if word.signature and word.decision == "approve" else None
        if word.decision == "reject":
            counting.append(word)
        elif person is not None:
            counting.append(replace(word, person=person))
    return tuple(counting)


def _same(person: str) -> str:
    return " ".join(person.casefold().split())
