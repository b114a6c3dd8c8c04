"""Signed envelopes and documents beside an image in an OCI registry.

Each is a referrer of the image (OCI 1.1; where the registry has no referrers API, in the index that clients keep for it under the tag
`sha256-<digest>`): there cosign 3 looks for a Sigstore bundle. One that a key signed is there twice, also as a layer of the manifest under
the tag `sha256-<digest>.att`, where `cosign verify-attestation --key` looks. What is read is only looked at for its digest; who signed it
is the reader's question.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

import httpx

from delivery.dsse import LARGEST_ENVELOPE, is_bundle
from delivery.errors import DeliveryError

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DSSE = "application/vnd.dsse.envelope.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_KINDS = frozenset({DSSE, BUNDLE})
_CONFIG = "application/vnd.oci.image.config.v1+json"
_EMPTY = "application/vnd.oci.empty.v1+json"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
MOST_ENVELOPES = 64
LARGEST_DOCUMENT = 64 * 1024 * 1024


class Session(Protocol):
    """Requests to one registry about one repository."""

    def ask(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, content: bytes | None = None) -> httpx.Response: ...


class Envelopes:
    """Of the image with `digest` in `repository`."""

    def __init__(self, session: Session, host: str, repository: str, digest: str) -> None:
        self._session = session
        self._host = host
        self._repository = repository
        self._digest = digest
        self._tag = digest.replace(":", "-")

    def put(self, envelope: bytes, *, predicate_type: str) -> None:
        kind = BUNDLE if is_bundle(json.loads(envelope)) else DSSE
        layer: dict[str, Any] = {"mediaType": kind, "digest": self._blob(envelope), "size": len(envelope)}
        layer["annotations"] = {"dev.cosignproject.cosign/signature": "", "predicateType": predicate_type}
        self._put_referrer(layer, {"in-toto.io/predicate-type": predicate_type})
        if kind == DSSE:
            self._put_attestation(layer)

    def put_document(self, document: bytes, *, kind: str) -> None:
        """Something unsigned, for instance the image's bill of materials; who reads it compares its digest with a signed one."""
        self._put_referrer({"mediaType": kind, "digest": self._blob(document), "size": len(document)}, {})

    def documents(self, kind: str) -> Sequence[bytes]:
        """Each document of this kind once, the newest first as far as the registry keeps an order."""
        layers = [one for one in self._referred(frozenset({kind})) if one.get("mediaType") == kind and _is_small(one, LARGEST_DOCUMENT)]
        return tuple(self._get_blob(digest) for digest in dict.fromkeys(str(layer["digest"]) for layer in layers))

    def all(self) -> Sequence[bytes]:
        """Each envelope once, the newest first as far as the registry keeps an order; a flood of others does not hide it."""
        found: dict[str, bytes] = {}
        for layer in (*reversed(self._layers_at(f"{self._tag}.att")), *self._referred(_KINDS)):
            digest = str(layer.get("digest"))
            if (
                layer.get("mediaType") in _KINDS
                and digest not in found
                and len(found) < MOST_ENVELOPES
                and _is_small(layer, LARGEST_ENVELOPE)
            ):
                found[digest] = self._get_blob(digest)
        return tuple(found.values())

    def _put_referrer(self, layer: Mapping[str, Any], annotations: Mapping[str, str]) -> None:
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": layer["mediaType"],
            "config": {"mediaType": _EMPTY, "digest": self._blob(b"{}"), "size": 2},
            "layers": [layer],
            "subject": self._subject(),
            "annotations": dict(annotations),
        }
        data = _json(manifest)
        digest = _digest_of(data)
        answer = self._put_manifest(digest, data, MANIFEST)
        if "OCI-Subject" in answer.headers:
            return
        entry = {
            "mediaType": MANIFEST,
            "digest": digest,
            "size": len(data),
            "artifactType": layer["mediaType"],
            "annotations": manifest["annotations"],
        }
        index = self._get_json(self._tag, INDEX) or {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
        entries = [one for one in _tables(index, "manifests") if one.get("digest") != digest]
        self._put_manifest(self._tag, _json({**index, "manifests": [*entries, entry]}), INDEX)

    def _put_attestation(self, layer: Mapping[str, Any]) -> None:
        tag = f"{self._tag}.att"
        layers = [one for one in self._layers_at(tag) if one.get("digest") != layer["digest"]]
        layers.append(layer)
        config = _json(
            {
                "architecture": "",
                "os": "",
                "created": "0001-01-01T00:00:00Z",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [one["digest"] for one in layers]},
            }
        )
        described = {"mediaType": _CONFIG, "digest": self._blob(config), "size": len(config)}
        self._put_manifest(tag, _json({"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers}), MANIFEST)

    def _referred(self, kinds: frozenset[str]) -> Iterator[Mapping[str, Any]]:
        """The layers of every referrer of these kinds, those of the newest first; a flood of other kinds does not hide them."""
        answer = self._session.ask("GET", f"/v2/{self._repository}/referrers/{self._digest}", headers={"Accept": INDEX})
        index = self._get_json(self._tag, INDEX) if answer.status_code == httpx.codes.NOT_FOUND else self._document(answer, "referrers")
        wanted = [entry for entry in _tables(index or {}, "manifests") if entry.get("artifactType") in kinds]
        for entry in reversed(wanted[-MOST_ENVELOPES:]):
            if _DIGEST.fullmatch(str(entry.get("digest"))):
                yield from self._layers_at(str(entry["digest"]))

    def _layers_at(self, reference: str) -> Sequence[Mapping[str, Any]]:
        return _tables(self._get_json(reference, MANIFEST) or {}, "layers")

    def _subject(self) -> Mapping[str, Any]:
        """The image's own descriptor; a subject must name its size and type as they are."""
        accept = f"{MANIFEST}, {INDEX}, application/vnd.docker.distribution.manifest.v2+json"
        answer = self._session.ask("GET", f"/v2/{self._repository}/manifests/{self._digest}", headers={"Accept": accept})
        if not answer.is_success or _digest_of(answer.content) != self._digest:
            raise self._refusal(f"manifest of {self._repository}@{self._digest}", answer)
        return {"mediaType": answer.headers["Content-Type"], "digest": self._digest, "size": len(answer.content)}

    def _get_json(self, reference: str, kind: str) -> Mapping[str, Any] | None:
        answer = self._session.ask("GET", f"/v2/{self._repository}/manifests/{reference}", headers={"Accept": kind})
        return None if answer.status_code == httpx.codes.NOT_FOUND else self._document(answer, reference)

    def _document(self, answer: httpx.Response, what: str) -> Mapping[str, Any]:
        if not answer.is_success:
            raise self._refusal(f"{what} of {self._repository}", answer)
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise DeliveryError(f"{self._host} answered {what} of {self._repository} with something else.", next="look at the registry.")
        return found

    def _put_manifest(self, reference: str, data: bytes, kind: str) -> httpx.Response:
        path = f"/v2/{self._repository}/manifests/{reference}"
        answer = self._session.ask("PUT", path, headers={"Content-Type": kind}, content=data)
        if not answer.is_success:
            raise self._refusal(f"put {self._repository}:{reference}", answer)
        return answer

    def _get_blob(self, digest: str) -> bytes:
        answer = self._session.ask("GET", f"/v2/{self._repository}/blobs/{digest}")
        if not answer.is_success or _digest_of(answer.content) != digest:
            raise self._refusal(f"blob {digest} of {self._repository}", answer)
        return answer.content

    def _blob(self, data: bytes) -> str:
        """Uploads what is not there yet, and returns its digest."""
        digest, blobs = _digest_of(data), f"/v2/{self._repository}/blobs"
        if self._session.ask("HEAD", f"{blobs}/{digest}").is_success:
            return digest
        begun = self._session.ask("POST", f"{blobs}/uploads/")
        if not begun.is_success or "Location" not in begun.headers:
            raise self._refusal(f"upload to {self._repository}", begun)
        place = urlsplit(urljoin(str(begun.request.url), begun.headers["Location"]))
        if place.netloc != begun.request.url.netloc.decode():  # our login goes to nobody else
            raise DeliveryError(f"{self._host} wants an upload at another host ({place.hostname}).", next="look at the registry's address.")
        query = f"{place.query}&" if place.query else ""
        done = self._session.ask(
            "PUT", f"{place.path}?{query}digest={digest}", headers={"Content-Type": "application/octet-stream"}, content=data
        )
        if not done.is_success:
            raise self._refusal(f"upload to {self._repository}", done)
        return digest

    def _refusal(self, asked: str, answer: httpx.Response) -> DeliveryError:
        return DeliveryError(
            f"The registry {self._host} answered {answer.status_code} to: {asked}.",
            next="look at the oci-registry block (may that user push?) and at the registry's log.",
        )


def _tables(document: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = document.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _is_small(layer: Mapping[str, Any], largest: int) -> bool:
    size = layer.get("size")
    return isinstance(size, int) and size <= largest and bool(_DIGEST.fullmatch(str(layer.get("digest"))))


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
