"""What an image must show before it may run in an environment: looked through not long ago, labelled, and without tools to build with."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from delivery.advisories import ECOSYSTEMS
from delivery.gate import CheckWaiver
from delivery.image import ImageConfiguration
from delivery.sbom import Sbom
from delivery.scan import Finding, Severity
from delivery.source import Sha
from delivery.strict import STRICT

# What the waivers of an environment's images name as their check.
IMAGES = "images"
REVISION = "org.opencontainers.image.revision"
# Nobody looked for vulnerabilities in these packages; a waiver of this rule names the kind as its place.
UNKNOWN = "no advisories"
# By the names of Debian's and Alpine's packages; what compiles or fetches code serves an intruder, and never a user.
BUILD_TOOLS = ("build-base", "build-essential", "cpp", "g++", "gcc", "gdb", "git", "make", "strace")
# The kinds of package URLs that advisories are imported for.
_KNOWN = tuple(ecosystem.lower() for ecosystem in ECOSYSTEMS)


@dataclass(frozen=True)
class ImagePolicy:
    """Images are looked through when they are published, and run here while the signed scan is no older than `scan_days` (0: none is asked
    for). Findings from `fails_at` on stop the release, as do packages named in `without`, a user that a platform could not prove to be
    nobody special, and more than `most_mb` (10^6 bytes, compressed; 0: any size), unless a waiver excuses them.
    """

    __pydantic_config__ = STRICT

    scan_days: float = 0.0
    fails_at: Severity = Severity.HIGH
    without: tuple[str, ...] = BUILD_TOOLS
    most_mb: float = 0.0
    waiver: tuple[CheckWaiver, ...] = ()

    def problems(self) -> tuple[str, ...]:
        """Everything that cannot be meant, as sentences `key: got …, expected …`."""
        found = [] if self.scan_days >= 0 else [f"image.scan_days: got {self.scan_days:g}, expected 0 or more"]
        found += [] if self.most_mb >= 0 else [f"image.most_mb: got {self.most_mb:g}, expected 0 or more"]
        found += [f"image.{problem}" for waiver in self.waiver for problem in waiver.problems()]
        found += [f"image.waiver.check: got {one.check[:80]!r}, expected {IMAGES!r}" for one in self.waiver if one.check != IMAGES]
        return tuple(found)

    def findings(self, sbom: Sbom, made: Iterable[ImageConfiguration], service: str, sha: Sha) -> tuple[Finding, ...]:
        """What the bill of materials and the image itself say against the image of a service that was built from `sha`."""
        own = [finding for one in made for finding in (*_user(one, service), *_size(one, service, self.most_mb))]
        return (*_labels(sbom, service, sha), *_tools(sbom, service, self.without), *_unknown(sbom, service), *dict.fromkeys(own))


def _labels(sbom: Sbom, service: str, sha: Sha) -> Sequence[Finding]:
    got = sbom.labels.get(REVISION)
    told = f"its label {REVISION} is {got[:80] if got else 'missing'}, expected {sha}"
    return () if got == str(sha) else (Finding("syft", "label", Severity.HIGH, service, told),)


def _user(made: ImageConfiguration, service: str) -> Sequence[Finding]:
    """A name is looked up in the image's own /etc/passwd, where it may be root's: Kubernetes' `runAsNonRoot` takes numbers only."""
    user = made.user.partition(":")[0]
    if user.isdecimal() and int(user):
        return ()
    told = f"runs as {user[:80]!r}, which nobody can prove not to be root" if user and not user.isdecimal() else "runs as root"
    return (
        Finding("registry", "user", Severity.HIGH, service, told, "write USER with a number in the last stage, for instance USER 10001"),
    )


def _size(made: ImageConfiguration, service: str, most_mb: float) -> Sequence[Finding]:
    if not most_mb or made.megabytes <= most_mb:
        return ()
    told = f"is {made.megabytes:.3g} MB large, expected at most {most_mb:g}"
    return (Finding("registry", "size", Severity.HIGH, service, told, "leave out what it does not run with, or raise image.most_mb"),)


def _tools(sbom: Sbom, service: str, without: Sequence[str]) -> Sequence[Finding]:
    return [
        Finding(
            "syft", "build-tool", Severity.HIGH, f"{service}: {one.name} {one.version}", "is in the image", "build in a stage of its own"
        )
        for one in sbom.packages
        if one.name in without
    ]


def _unknown(sbom: Sbom, service: str) -> Sequence[Finding]:
    """Packages that no advisory could speak of were not looked at, which is never clean: no gate is low enough to let them pass."""
    return [
        Finding("syft", UNKNOWN, Severity.CRITICAL, f"{kind} in {service}", f"are imported for these {count} packages")
        for kind, count in sbom.kinds.items()
        if kind not in _KNOWN
    ]
