"""What lies in a repository of an OCI registry, and how it is taken away.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md: listing tags and referrers, the tag schema, deleting.
Untagged manifests are in no listing: they are found through the index that lists them or the image that they describe.
"""

import json
import re
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx

from delivery.errors import DeliveryError, TransientError
from delivery.image import is_digest
from delivery.retention import Manifest

_MANIFEST_KINDS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = ", ".join(_MANIFEST_KINDS)
# `sha256-<hex>` lists what describes an image where the registry keeps no such list; cosign adds .sig, .att or .sbom.
_DESCRIBES = re.compile(r"sha256-(?P<hex>[0-9a-f]{64})(?:\.(?:sig|att|sbom))?")
_NEXT_PAGE = re.compile(r"<([^>]+)>;\s*rel=\"?next\"?")
_MOST_PAGES = 1000


class Ask(Protocol):
    """One request to the registry, with its login."""

    def __call__(self, method: str, path: str, *, headers: dict[str, str] | None = None) -> httpx.Response: ...


def manifests_in(ask: Ask, name: str, host: str) -> tuple[Manifest, ...]:
    """Every named manifest of the repository, and every manifest that describes one of them, by digest. Empty for an unknown repository."""
    tags: dict[str, set[str]] = {}
    documents: dict[str, dict[str, Any]] = {}
    for tag in _tags(ask, name, host):
        found = _manifest(ask, name, tag, host)
        if found is not None:  # deleted since it was listed
            digest, document = found
            tags.setdefault(digest, set()).add(tag)
            documents[digest] = document
    for digest in tuple(documents):
        for referrer in _referrers(ask, name, digest, host):
            if referrer not in documents and (found := _manifest(ask, name, referrer, host)):
                documents[referrer] = found[1]
    return tuple(_described(digest, document, frozenset(tags.get(digest, ()))) for digest, document in documents.items())


def delete_manifest(ask: Ask, name: str, digest: str, host: str) -> None:
    """Idempotent. Raises `DeliveryError` when the registry does not allow it."""
    answer = ask("DELETE", f"/v2/{name}/manifests/{digest}")
    if answer.status_code in (httpx.codes.METHOD_NOT_ALLOWED, httpx.codes.BAD_REQUEST) and "UNSUPPORTED" in answer.text.upper():
        raise DeliveryError(
            f"The registry {host} does not allow deleting.",
            next="switch it on (docker-registry: storage.delete.enabled), or leave old images to the registry's own retention.",
        )
    if answer.status_code not in (httpx.codes.ACCEPTED, httpx.codes.NOT_FOUND):
        raise _refused(host, f"delete {name}@{digest[:19]}", answer)


def _described(digest: str, document: dict[str, Any], tags: frozenset[str]) -> Manifest:
    named = [found for tag in tags if (found := _DESCRIBES.fullmatch(tag))]
    subject = document.get("subject", {}).get("digest") or (f"sha256:{named[0]['hex']}" if named else None)
    return Manifest(digest, tags, tuple(_digests(document)), subject)


def _digests(document: dict[str, Any]) -> list[str]:
    return [one["digest"] for one in document.get("manifests") or [] if is_digest(str(one.get("digest")))]


def _tags(ask: Ask, name: str, host: str) -> list[str]:
    found: list[str] = []
    path = f"/v2/{name}/tags/list?n=1000"
    for _ in range(_MOST_PAGES):
        answer = ask("GET", path)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return []
        if answer.status_code != httpx.codes.OK:
            raise _refused(host, f"names in {name}", answer)
        found += answer.json().get("tags") or []
        following = _NEXT_PAGE.search(answer.headers.get("Link", ""))
        if following is None:
            return found
        page = urlsplit(following[1])
        path = f"{page.path}?{page.query}"
    raise DeliveryError(f"The registry {host} lists the names in {name} without end.", next="look at the registry.")


def _manifest(ask: Ask, name: str, reference: str, host: str) -> tuple[str, dict[str, Any]] | None:
    answer = ask("GET", f"/v2/{name}/manifests/{reference}", headers={"Accept": MANIFESTS})
    if answer.status_code == httpx.codes.NOT_FOUND:
        return None
    digest = answer.headers.get("Docker-Content-Digest", "")
    if answer.status_code != httpx.codes.OK or not is_digest(digest):
        raise _refused(host, f"manifest of {name}:{reference}", answer)
    return digest, answer.json()


def _referrers(ask: Ask, name: str, digest: str, host: str) -> list[str]:
    """Empty too where the registry keeps no such list; then the names of the tag schema tell."""
    answer = ask("GET", f"/v2/{name}/referrers/{digest}")
    if answer.status_code in (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED, httpx.codes.BAD_REQUEST):
        return []
    if answer.status_code != httpx.codes.OK:
        raise _refused(host, f"what describes {name}@{digest[:19]}", answer)
    try:
        return _digests(json.loads(answer.content))
    except ValueError:
        return []


def _refused(host: str, asked: str, answer: httpx.Response) -> DeliveryError:
    kind = TransientError if answer.is_server_error else DeliveryError
    return kind(
        f"The registry {host} answered {answer.status_code} to: {asked}.", next="look at the registry's log and the login's rights."
    )
