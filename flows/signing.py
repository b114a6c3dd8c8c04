"""What became of a release is signed at each stage. A link that cannot be signed never keeps a rollout from anything: it is missing in the
evidence, which says so.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from delivery.approval import PromotionRequest
from delivery.check import CheckResult
from delivery.errors import DeliveryError
from delivery.image_scan import ImageScan, scan_facts
from delivery.links import Link, Stage
from delivery.release import Release
from flows.assembly import House
from tasks.chain import approval_facts, rollout_facts
from tasks.sign import sign_link

log = logging.getLogger("greenroom.signing")


def sign_tests(house: House, release: Release, checks: Iterable[CheckResult], end_to_end: CheckResult | None) -> None:
    """Everything that proved the commit, and the end-to-end tests of the images; both are written down when there are none."""
    _sign(house, release, Stage.TESTS, {result.name: result.sentence() for result in checks})
    _sign(house, release, Stage.END_TO_END, {end_to_end.name: end_to_end.sentence()} if end_to_end else {})


def sign_scan(house: House, release: Release, scans: Sequence[ImageScan]) -> None:
    """What the images are made of, what is known against it, and when that was asked; nothing where nobody asked."""
    if scans:
        _sign(house, release, Stage.SCAN, scan_facts(scans, house.store.now()))


def sign_approval(house: House, request: PromotionRequest) -> None:
    """Who said what to which plan, as it stands in the journal when the rollout begins: the caller's own copy may be older than that."""
    request = house.store.request(request.number)
    words = [(one.person, one.decision, one.reason, one.channel) for one in request.approvals]
    facts = approval_facts(request.plan_hash, request.number, words)
    _sign(house, request.plan.release, Stage.APPROVAL, facts, environment=request.plan.environment.name)


def sign_rollout(house: House, rollout: str) -> None:
    """How a rollout ended that brought its release to users; going back to a release needs no words of its own."""
    record = house.store.rollout(rollout)
    if record.promoted_at is not None and record.kind != "rollback":
        release = house.store.release(record.release)
        _sign(house, release, Stage.ROLLOUT, rollout_facts(house.store, record), environment=record.environment)


def _sign(house: House, release: Release, stage: Stage, facts: Mapping[str, Any], *, environment: str = "") -> None:
    try:
        if (signer := house.signer()) is not None:
            sign_link(Link(stage, release.build, after="", facts=facts, environment=environment), release, signer, house.store)
    except DeliveryError as broken:
        log.warning("The %s of %s is not signed: %s", stage, release.id, broken)
