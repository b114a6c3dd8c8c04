"""What the published images are made of, and what is known against it: each is looked at by its digest, whatever its names say."""

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from delivery.errors import DeliveryError, TransientError
from delivery.image import ImageRef
from delivery.image_scan import ImageScan
from delivery.ports import Registry, RegistryAccess
from delivery.release import Release
from delivery.sbom import CYCLONEDX, sbom_in
from delivery.scan import NotScanned, Scan, Scanned
from tasks.advisories import Advisories, ready_advisories
from tasks.findings import tells_of_the_network
from tasks.reports import read_report
from tasks.retry import NETWORK, retried
from tasks.shell import run_tool
from tasks.side_by_side import first_failure, side_by_side
from tasks.toolchains import program_identity, toolchain_environment

log = logging.getLogger("greenroom.image_scan")

# `trivy sbom` knows fewer flags than `trivy fs`.
OFFLINE = ("--skip-db-update", "--skip-java-db-update", "--skip-version-check", "--offline-scan")
LONGEST_LOOK = timedelta(minutes=10)


def scan_images(release: Release, registry: Registry, *, work_dir: Path, advisories: Path | None, today: date) -> tuple[ImageScan, ...]:
    """Looks at every image side by side, and puts its bill of materials beside it in the registry. May be repeated.

    A bill is made once per digest; what is known against it is asked anew each time. Raises `DeliveryError` when an image could not be
    looked at; that nothing is known about vulnerabilities is a value.
    """
    environment = toolchain_environment(None, work_dir=work_dir)
    identity = program_identity("trivy", environment["PATH"])
    known = ready_advisories(advisories, work_dir=work_dir, environment=environment, today=today, identity=identity)
    services = {release.images[service.name]: service.name for service in release.services}  # two may share an image
    acts = [partial(scan_image, name, image, registry, known, work_dir=work_dir) for image, name in services.items()]
    found = {scan.image: scan for scan in first_failure(side_by_side(acts, at_once=os.cpu_count() or 1))}
    return tuple(replace(found[release.images[service.name]], service=service.name) for service in release.services)


@retried(NETWORK, name="scan image", run_name="scan image of {service}")
def scan_image(service: str, image: ImageRef, registry: Registry, known: Advisories | NotScanned, *, work_dir: Path) -> ImageScan:
    """One image: its bill of materials, held against the advisories."""
    folder = work_dir / "sboms" / image.digest.removeprefix("sha256:")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "sbom.cdx.json"
    if not file.exists():
        _describe(image, registry.access(), file, service, work_dir=work_dir)
    document = file.read_bytes()
    try:
        sbom = sbom_in(document, image)
    except DeliveryError:
        file.unlink(missing_ok=True)  # it is made anew the next time
        raise
    registry.attach_document(image, document, kind=CYCLONEDX)
    made = tuple(registry.configurations(image))
    if isinstance(known, NotScanned):
        return ImageScan(service, image, _digest(document), sbom, made, known, "")
    scan = _weigh(file, service, known, work_dir=work_dir)
    return ImageScan(service, image, _digest(document), sbom, made, scan, str(known.as_of))


def _describe(image: ImageRef, access: RegistryAccess, file: Path, service: str, *, work_dir: Path) -> None:
    """Syft reads the image out of the registry, so that an engine's copy of the same name counts for nothing."""
    draft, log_file = file.with_name(f"{service}.{os.getpid()}.draft"), file.with_name(f"{service}.syft.log")
    tool = run_tool(
        ["syft", "scan", f"registry:{image}", "--quiet", "--output", f"cyclonedx-json={draft}"],
        directory=file.parent,
        environment=toolchain_environment(None, work_dir=work_dir, extra=_settings(access)),
        timeout=LONGEST_LOOK,
        log_file=log_file,
        secrets=[SecretStr(access.password)] if access.password else [],
        label="syft",
    )
    if not tool.succeeded or not draft.exists():
        draft.unlink(missing_ok=True)
        kind = TransientError if tells_of_the_network(tool.tail) else DeliveryError
        words = next((line.strip()[:200] for line in reversed(tool.tail) if line.strip()), f"exit code {tool.exit_code}")
        raise kind(f"Syft could not read {image}: {words}", next=f"see {log_file}.")
    draft.replace(file)


def _settings(access: RegistryAccess) -> Mapping[str, str]:
    """In the environment, since arguments can be read by everybody on the machine."""
    login = {
        "SYFT_REGISTRY_AUTH_AUTHORITY": access.host,
        "SYFT_REGISTRY_AUTH_USERNAME": access.username,
        "SYFT_REGISTRY_AUTH_PASSWORD": access.password,
    }
    plain = {"SYFT_REGISTRY_INSECURE_USE_HTTP": "true"} if access.insecure else {}
    return {"SYFT_CHECK_FOR_APP_UPDATE": "false", **plain, **(login if access.username else {})}


def _weigh(sbom: Path, service: str, known: Advisories, *, work_dir: Path) -> Scan:
    report, log_file = sbom.with_name(f"{service}.trivy.json"), sbom.with_name(f"{service}.trivy.log")
    report.unlink(missing_ok=True)
    tool = run_tool(
        ["trivy", "sbom", "--quiet", "--config", "/dev/null", "--ignorefile", "/dev/null", "--cache-dir", str(known.folder), *OFFLINE,
         "--scanners", "vuln", "--list-all-pkgs", "--format", "json", "--output", str(report), str(sbom)],
        directory=sbom.parent,
        environment=toolchain_environment(None, work_dir=work_dir),
        timeout=LONGEST_LOOK,
        log_file=log_file,
        label="trivy",
    )  # fmt: skip
    if not tool.succeeded or not report.exists():
        return NotScanned(f"trivy ended with exit code {tool.exit_code} and no report; see {log_file}")
    scan = read_report("trivy", report.read_text(encoding="utf-8"), tool.tail)
    if isinstance(scan, Scanned):
        log.info("%s: %d vulnerabilities", service, len(scan.findings))
    return scan


def _digest(document: bytes) -> str:
    return f"sha256:{hashlib.sha256(document).hexdigest()}"
