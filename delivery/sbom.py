"""What an image is made of: a bill of materials in CycloneDX's JSON (https://cyclonedx.org/docs/1.6/json/), read once."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from delivery.errors import DeliveryError
from delivery.image import ImageRef

CYCLONEDX = "application/vnd.cyclonedx+json"
_LABEL = "syft:image:labels:"
# A package URL begins with its ecosystem (https://github.com/package-url/purl-spec).
_PURL = re.compile(r"pkg:(?P<kind>[a-z0-9.+-]+)/")


@dataclass(frozen=True)
class Package:
    """`kind` is the package URL's: pypi, npm, deb, …"""

    kind: str
    name: str
    version: str


@dataclass(frozen=True)
class Sbom:
    """`labels` are the image's own, by name."""

    packages: tuple[Package, ...]
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def kinds(self) -> Mapping[str, int]:
        """How many packages of each kind, by the kind's name."""
        return dict(sorted(Counter(package.kind for package in self.packages).items()))


def sbom_in(document: bytes, image: ImageRef) -> Sbom:
    """Raises `DeliveryError` for what is no CycloneDX, or is about another image than the one with this very digest."""
    try:
        read = json.loads(document)
        is_meant = read["bomFormat"] == "CycloneDX" and read["metadata"]["component"]["version"] == image.digest
        labels = {
            one["name"].removeprefix(_LABEL): str(one["value"])
            for one in read["metadata"].get("properties") or ()
            if one["name"].startswith(_LABEL)
        }
        packages = tuple(
            Package(found["kind"], str(one["name"]), str(one.get("version") or ""))
            for one in read.get("components") or ()
            if (found := _PURL.match(_purl(one)))
        )
    except (KeyError, TypeError, ValueError, AttributeError) as odd:
        raise _another(image, f"something else ({type(odd).__name__})") from None
    if not is_meant:
        raise _another(image, "of another image")
    return Sbom(packages, labels)


def _another(image: ImageRef, what: str) -> DeliveryError:
    return DeliveryError(
        f"What should be the bill of materials of {image.repository}@{image.digest[:19]}… is {what}.",
        next="look at the version of syft, and at who else writes into the registry.",
    )


def _purl(component: Mapping[str, Any]) -> str:
    return str(component.get("purl") or "")
