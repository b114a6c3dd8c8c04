"""The images of a release, looked through when it is published, and again when that is too long ago."""

from collections.abc import Mapping

from blocks.settings import environment_names
from delivery.errors import InvalidSettings
from delivery.image_policy import ImagePolicy
from delivery.image_scan import ImageScan, require_acceptable, scan_facts, scan_sentence
from delivery.release import Release
from flows.assembly import House
from flows.signing import sign_scan
from tasks.image_scan import scan_images


def scan_published(house: House, release: Release) -> tuple[ImageScan, ...]:
    """Scans what lies in the registry, where some environment wants that. Raises `DeliveryError` with what stops the release in any of
    them, however far it is to go now: it may be asked to go further later.
    """
    policies = _policies(house)
    return _scanned(house, release, policies) if policies else ()


def scan_again(house: House, release: Release) -> str:
    """Asks anew what is known against a published release, signs the answer, and returns it for people."""
    policies = _policies(house)
    if not policies:
        raise InvalidSettings("No environment here asks for scanned images.", next="set image.scan_days in an environment file.")
    if house.signer() is None:
        raise InvalidSettings(
            "There is no key here that could sign what the scan says.", next="make one: `python -m deployments.keys` (docs/operating.md)."
        )
    scans = _scanned(house, release, policies)
    sign_scan(house, release, scans)
    return scan_sentence(scan_facts(scans, house.store.now()))


def _scanned(house: House, release: Release, policies: Mapping[str, ImagePolicy]) -> tuple[ImageScan, ...]:
    installation, today = house.settings, house.store.now().date()
    scans = scan_images(release, house.registry(), work_dir=installation.work_dir, advisories=installation.advisories, today=today)
    require_acceptable(scans, release, policies, today)
    return scans


def _policies(house: House) -> Mapping[str, ImagePolicy]:
    found = {name: house.environment(name).image for name in environment_names(house.settings.environments_dir)}
    return {name: policy for name, policy in found.items() if policy.scan_days}
