"""What a bill of materials says against an image, and how long a signed scan counts."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from delivery.dsse import NotProven
from delivery.errors import DeliveryError
from delivery.gate import NOT_SCANNED, CheckWaiver
from delivery.image import ImageConfiguration, ImageRef
from delivery.image_policy import IMAGES, REVISION, UNKNOWN, ImagePolicy
from delivery.image_scan import ImageScan, require_acceptable, require_fresh, scan_facts, scan_sentence
from delivery.sbom import Package, Sbom, sbom_in
from delivery.scan import Finding, NotScanned, Scan, Scanned, Severity
from tests.samples import a_release

RELEASE = a_release("1.0.0")
TODAY = date(2026, 3, 1)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = ImagePolicy(scan_days=30)
FLASK = Package("pypi", "flask", "3.1.0")
PLAIN = ImageConfiguration(user="10001", megabytes=80.0)
SOUND = Sbom((FLASK,), {REVISION: str(RELEASE.sha)})
HOLE = Finding("trivy", "CVE-2026-1", Severity.HIGH, "Python: flask 3.1.0", "lets in everybody")


def scans(sbom: Sbom = SOUND, seen: Scan = Scanned(), made: ImageConfiguration = PLAIN) -> tuple[ImageScan, ...]:  # noqa: B008  both are frozen
    return tuple(
        ImageScan(one.name, RELEASE.images[one.name], "sha256:" + "5" * 64, sbom, (made,), seen, "2026-02-28") for one in RELEASE.services
    )


def waived(rule: str, place: str | None = None, until: date = TODAY) -> ImagePolicy:
    return replace(POLICY, waiver=(CheckWaiver(check=IMAGES, rule=rule, place=place, reason="known", owner="Ann", until=until),))


def refused(sbom: Sbom = SOUND, seen: Scan = Scanned(), policy: ImagePolicy = POLICY, made: ImageConfiguration = PLAIN) -> str:  # noqa: B008  all are frozen
    try:
        require_acceptable(scans(sbom, seen, made), RELEASE, {"production": policy}, TODAY)
    except DeliveryError as stopped:
        return stopped.what
    return ""


def test_images_with_nothing_against_them_pass() -> None:
    assert refused() == ""


@pytest.mark.parametrize(
    ("sbom", "seen", "why"),
    [
        (SOUND, Scanned((HOLE,)), "production: high: Python: flask 3.1.0 CVE-2026-1 lets in everybody"),
        (SOUND, NotScanned("no advisories were imported"), "api was not scanned: no advisories were imported"),
        (replace(SOUND, labels={}), Scanned(), f"its label {REVISION} is missing, expected {RELEASE.sha}"),
        (replace(SOUND, labels={REVISION: "f" * 40}), Scanned(), f"its label {REVISION} is {'f' * 40}"),
        (replace(SOUND, packages=(Package("pypi", "gcc", "12"),)), Scanned(), "api: gcc 12 build-tool"),
        (
            replace(SOUND, packages=(Package("deb", "libc6", "2"),) * 3),
            Scanned(),
            "critical: deb in api no advisories are imported",
        ),
    ],
)
def test_each_of_these_stops_a_release_by_name(sbom: Sbom, seen: Scan, why: str) -> None:
    assert why in refused(sbom, seen)


@pytest.mark.parametrize(
    ("user", "why"),
    [
        ("10001", ""),
        ("10001:10001", ""),
        ("", "api user runs as root"),
        ("0", "api user runs as root"),
        ("00:10001", "api user runs as root"),
        ("app", "api user runs as 'app', which nobody can prove not to be root"),
    ],
)
def test_only_a_user_by_number_is_proved_not_to_be_root(user: str, why: str) -> None:
    found = refused(made=replace(PLAIN, user=user))
    assert why in found
    assert bool(found) is bool(why)
    assert refused(made=replace(PLAIN, user=user), policy=waived("user")) == ""


def test_an_image_may_be_as_large_as_the_environment_says() -> None:
    assert refused(policy=replace(POLICY, most_mb=80)) == ""
    assert "api size is 80 MB large, expected at most 79" in refused(policy=replace(POLICY, most_mb=79))


def test_a_finding_below_the_gate_stops_nothing() -> None:
    assert refused(seen=Scanned((replace(HOLE, severity=Severity.MEDIUM),))) == ""


def test_a_waiver_excuses_its_own_finding_until_its_day() -> None:
    found = Scanned((HOLE,))
    assert refused(seen=found, policy=waived("CVE-2026-1")) == ""
    assert "CVE-2026-1" in refused(seen=found, policy=waived("CVE-2026-2"))
    assert "ran out" in refused(seen=found, policy=waived("CVE-2026-1", until=TODAY - timedelta(days=1)))


def test_who_excuses_unknown_debian_packages_excuses_no_others_and_no_missing_advisories() -> None:
    policy = waived(UNKNOWN, "deb")
    both = replace(SOUND, packages=(FLASK, Package("deb", "libc6", "2"), Package("apk", "musl", "1")))
    assert refused(replace(SOUND, packages=(FLASK, Package("deb", "libc6", "2"))), policy=policy) == ""
    assert "apk in api" in refused(both, policy=policy)
    assert "deb in api" not in refused(both, policy=policy)
    assert "was not scanned" in refused(seen=NotScanned("nothing there"), policy=policy)


def test_what_was_not_scanned_passes_by_a_waiver_of_that_alone_and_is_signed_as_such() -> None:
    blind = NotScanned("no advisories were imported")
    assert refused(seen=blind, policy=waived(NOT_SCANNED)) == ""
    assert "not scanned (no advisories were imported)" in scan_sentence(scan_facts(scans(seen=blind), NOW))


def test_the_strictest_environment_decides() -> None:
    lax, strict = ImagePolicy(scan_days=1, fails_at=Severity.CRITICAL), POLICY
    with pytest.raises(DeliveryError, match="production: high") as stopped:
        require_acceptable(scans(seen=Scanned((HOLE,))), RELEASE, {"staging": lax, "production": strict}, TODAY)
    assert "staging" not in stopped.value.what


def test_a_scan_counts_for_its_days_and_not_longer() -> None:
    facts = scan_facts(scans(), NOW)
    require_fresh(facts, RELEASE, POLICY, NOW + timedelta(days=30))
    with pytest.raises(NotProven, match="were scanned on 2026-03-01 12:00 UTC") as old:
        require_fresh(facts, RELEASE, POLICY, NOW + timedelta(days=30, seconds=1))
    assert old.value.next == f"scan it again: `greenroom scan {RELEASE.id}`."


@pytest.mark.parametrize("at", ["", "soon", "2026-03-01T12:00:00", "2027-01-01T00:00:00+00:00", None])
def test_a_time_that_nobody_can_tell_or_that_has_not_come_is_no_time(at: str | None) -> None:
    with pytest.raises(NotProven):
        require_fresh({**scan_facts(scans(), NOW), "at": at}, RELEASE, POLICY, NOW)


def test_a_scan_of_other_images_or_none_does_not_count() -> None:
    other = replace(RELEASE, images={**RELEASE.images, "api": ImageRef("ghcr.io", "shop/api", "sha256:" + "9" * 64)})
    with pytest.raises(NotProven, match="says nothing of the image of api"):
        require_fresh(scan_facts(scans(), NOW), other, POLICY, NOW)
    with pytest.raises(NotProven, match="nothing was signed"):
        require_fresh(None, RELEASE, POLICY, NOW)
    require_fresh(None, RELEASE, ImagePolicy(), NOW)


def document(digest: str) -> bytes:
    return json.dumps(
        {
            "bomFormat": "CycloneDX",
            "metadata": {
                "component": {"version": digest},
                "properties": [{"name": f"syft:image:labels:{REVISION}", "value": "abc"}, {"name": "other", "value": "x"}],
            },
            "components": [{"name": "flask", "version": "3.1.0", "purl": "pkg:pypi/flask@3.1.0"}, {"name": "debian", "version": "12"}],
        }
    ).encode()


def test_a_bill_of_materials_is_read_by_kind_and_belongs_to_one_digest() -> None:
    image = RELEASE.images["api"]
    assert sbom_in(document(image.digest), image) == Sbom((FLASK,), {REVISION: "abc"})
    with pytest.raises(DeliveryError, match="is of another image"):
        sbom_in(document("sha256:" + "9" * 64), image)
    for odd in (b"", b"[]", b"{}", b'{"bomFormat": "CycloneDX"}', b"\xff"):
        with pytest.raises(DeliveryError, match="is something else"):
            sbom_in(odd, image)


def test_an_image_policy_that_cannot_be_meant_is_told_by_its_key() -> None:
    policy = ImagePolicy(scan_days=-1, waiver=(replace(waived("x").waiver[0], check="pytest", owner=" "),))
    told = " ".join(policy.problems())
    assert "image.scan_days: got -1" in told
    assert "image.waiver.check: got 'pytest', expected 'images'" in told
    assert "got no owner" in told
