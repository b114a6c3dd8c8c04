"""How an image says that it is to be run, and how large it is, read out of the registry by digest.

https://github.com/opencontainers/image-spec/blob/v1.1.0/config.md and manifest.md. What the registry hands out is believed only where its
own digest fits, so that neither a tag nor a registry that lies changes what was looked at.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import httpx

from blocks.registry_shelf import MANIFESTS, Ask
from delivery.errors import DeliveryError
from delivery.image import ImageConfiguration, ImageRef, is_digest

_NEXT = "build and publish the image anew; if that does not help, look at the registry."


def configurations_of(ask: Ask, image: ImageRef) -> tuple[ImageConfiguration, ...]:
    """One per platform that the image is built for. Raises `DeliveryError` for what cannot be read, or is not what its digest says."""
    return tuple(_configuration(ask, image, manifest) for manifest in _manifests(ask, image))


def _manifests(ask: Ask, image: ImageRef) -> Iterator[dict[str, Any]]:
    document = _fetched(ask, image, f"manifests/{image.digest}", image.digest)
    if "manifests" not in document:
        yield document
        return
    # BuildKit lists its attestations as images of the platform unknown/unknown.
    own = [one for one in document["manifests"] if one.get("platform", {}).get("os") != "unknown"]
    for one in own:
        yield _fetched(ask, image, f"manifests/{one['digest']}", one["digest"])


def _configuration(ask: Ask, image: ImageRef, manifest: dict[str, Any]) -> ImageConfiguration:
    try:
        digest, size = str(manifest["config"]["digest"]), sum(int(layer["size"]) for layer in manifest["layers"])
    except (KeyError, TypeError, ValueError):
        raise DeliveryError(f"{image} has a manifest of another shape.", next=_NEXT) from None
    said = _fetched(ask, image, f"blobs/{digest}", digest).get("config") or {}
    return ImageConfiguration(user=str(said.get("User") or ""), megabytes=size / 1e6)


def _fetched(ask: Ask, image: ImageRef, what: str, digest: str) -> dict[str, Any]:
    answer = ask("GET", f"/v2/{image.repository}/{what}", headers={"Accept": f"{MANIFESTS}, */*"})
    if answer.status_code != httpx.codes.OK:
        raise DeliveryError(f"The registry {image.registry} answered {answer.status_code} to: {what} of {image}.", next=_NEXT)
    if not is_digest(digest) or f"sha256:{hashlib.sha256(answer.content).hexdigest()}" != digest:
        raise DeliveryError(f"The registry {image.registry} handed out something else for {what} of {image}.", next=_NEXT)
    try:
        document = json.loads(answer.content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise DeliveryError(f"The registry {image.registry} has no document for {what} of {image}.", next=_NEXT)
    return document
