"""A scan of a release's images by digest: what stops it, what is signed of it, and how long that counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from delivery.dsse import NotProven
from delivery.errors import DeliveryError
from delivery.gate import Gate
from delivery.image import ImageConfiguration, ImageRef
from delivery.image_policy import IMAGES, ImagePolicy
from delivery.release import Release
from delivery.sbom import Sbom
from delivery.scan import NotScanned, Scan, Scanned, count_by_severity, worst_first

_MOST_LINES = 20
# Two machines' clocks differ by less.
_AHEAD = timedelta(minutes=5)


@dataclass(frozen=True)
class ImageScan:
    """Of one service's image. `digest` is the bill of materials' own; `vulnerabilities` came of holding it against advisories that were
    put together on the day `advisories`, which is "" when there were none.
    """

    service: str
    image: ImageRef
    digest: str
    sbom: Sbom
    made: tuple[ImageConfiguration, ...]
    vulnerabilities: Scan
    advisories: str


def require_acceptable(scans: Sequence[ImageScan], release: Release, policies: Mapping[str, ImagePolicy], today: date) -> None:
    """Raises `DeliveryError` with every finding that stops the release in one of these environments, and every waiver that has run out."""
    told = [line for name, policy in policies.items() for line in _against(scans, release, policy, today, name)]
    if told:
        lines = [*told[:_MOST_LINES], *(f"and {len(told) - _MOST_LINES} more" for _ in told[_MOST_LINES : _MOST_LINES + 1])]
        raise DeliveryError(
            f"The images of {release.id} may not be released:" + "".join(f"\n  {line}" for line in lines),
            next="build them without what was found, or excuse it for a time: an [[image.waiver]] in the environment's file.",
        )


def _against(scans: Sequence[ImageScan], release: Release, policy: ImagePolicy, today: date, name: str) -> list[str]:
    gate = Gate(today, policy.waiver)
    told = [f"{name}: {wrong}" for wrong in gate.wrong_waivers()]
    for one in scans:
        seen = one.vulnerabilities
        own = policy.findings(one.sbom, one.made, one.service, release.sha)
        decision = gate.decide(IMAGES, Scanned(own + (seen.findings if isinstance(seen, Scanned) else ())), fails_at=policy.fails_at)
        told += [f"{name}: {finding.severity}: {finding.sentence()}" for finding in worst_first(decision.stopping)]
        if isinstance(seen, NotScanned) and (blind := gate.decide(IMAGES, seen, fails_at=policy.fails_at).blind):
            told.append(f"{name}: {one.service} was not scanned: {blind}")
    return told


def scan_facts(scans: Sequence[ImageScan], at: datetime) -> Mapping[str, Any]:
    """What is signed: when, with which advisories, and for each image its digest, its bill of materials' digest and the counts."""
    return {
        "at": at.astimezone(UTC).isoformat(timespec="seconds"),
        "scanner": "syft, trivy",
        "advisories": next((one.advisories for one in scans), ""),
        "images": {
            one.service: {
                "image": one.image.digest,
                "sbom": one.digest,
                "packages": dict(one.sbom.kinds),
                "found": _told(one.vulnerabilities),
            }
            for one in scans
        },
    }


def signed_sboms(facts: Mapping[str, Any], release: Release) -> Mapping[str, str]:
    """Each service's signed digest of its bill of materials. Raises `NotProven` when the words are not about these images."""
    images = facts.get("images")
    found = {}
    for service in release.services:
        said = images.get(service.name) if isinstance(images, dict) else None
        if not isinstance(said, dict) or said.get("image") != release.images[service.name].digest or not isinstance(said.get("sbom"), str):
            raise NotProven(f"What was signed says nothing of the image of {service.name}.", next=_again(release))
        found[service.name] = str(said["sbom"])
    return found


def require_fresh(facts: Mapping[str, Any] | None, release: Release, policy: ImagePolicy, now: datetime) -> None:
    """Raises `NotProven` unless a trusted key said, no longer than `scan_days` ago, that these very images were looked through."""
    if not policy.scan_days:
        return
    if facts is None:
        raise NotProven(f"The images of {release.version.tag} were not scanned: nothing was signed.", next=_again(release))
    signed_sboms(facts, release)
    try:
        at = datetime.fromisoformat(str(facts.get("at")))
        age = now - at
    except (ValueError, TypeError):
        raise NotProven(f"Nobody can tell when the images of {release.version.tag} were scanned.", next=_again(release)) from None
    if not -_AHEAD <= age <= timedelta(days=policy.scan_days):
        raise NotProven(
            f"The images of {release.version.tag} were scanned on {at:%Y-%m-%d %H:%M} UTC, {policy.scan_days:g} days ago at most counts.",
            next=_again(release),
        )


def scan_sentence(facts: Mapping[str, Any]) -> str:
    """For people: when, with which advisories, and what was found in each image."""
    images = facts.get("images")
    told = [
        f"{service}: {sum(said['packages'].values())} packages, {said['found']}"
        for service, said in (images.items() if isinstance(images, dict) else ())
    ]
    return f"{facts.get('at')}, advisories of {facts.get('advisories') or 'no day'}; " + "; ".join(told)


def _told(scan: Scan) -> str:
    return f"not scanned ({scan.reason})" if isinstance(scan, NotScanned) else f"{count_by_severity(scan.findings)} found"


def _again(release: Release) -> str:
    return f"scan it again: `greenroom scan {release.id}`."
