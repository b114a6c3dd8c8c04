"""Small images in a real registry, put there as a builder and a signer do, without an engine; and whether they can still be pulled."""

import hashlib
import json

import httpx

INDEX = "application/vnd.oci.image.index.v1+json"
IMAGE = "application/vnd.oci.image.manifest.v1+json"


class Shelf:
    """One repository. Descriptors are as the registry's own: mediaType, digest, size."""

    def __init__(self, host: str, repository: str) -> None:
        self._client = httpx.Client(base_url=f"http://{host}/v2/{repository}", trust_env=False)

    def blob(self, content: bytes) -> dict[str, object]:
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        place = self._client.post("/blobs/uploads/").headers["Location"]
        separator = "&" if "?" in place else "?"
        self._client.put(f"{place}{separator}digest={digest}", content=content).raise_for_status()
        return {"mediaType": "application/octet-stream", "digest": digest, "size": len(content)}

    def manifest(self, document: dict[str, object], kind: str, *names: str) -> dict[str, object]:
        content = json.dumps({"schemaVersion": 2, "mediaType": kind, **document}).encode()
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        for name in names or (digest,):
            self._client.put(f"/manifests/{name}", content=content, headers={"Content-Type": kind}).raise_for_status()
        return {"mediaType": kind, "digest": digest, "size": len(content)}

    def image(self, text: str, *names: str, **more: object) -> dict[str, object]:
        return self.manifest({"config": self.blob(b"{}"), "layers": [self.blob(text.encode())], **more}, IMAGE, *names)

    def signed_index(self, text: str, *names: str) -> str:
        """An index of one platform, signed twice: as cosign names it, and as a referrer in the listing of the tag schema."""
        index = self.manifest({"manifests": [self.image(text)]}, INDEX, *names)
        tag = str(index["digest"]).replace(":", "-")
        self.image(f"signature of {text}", f"{tag}.sig")
        referrer = self.image(f"attestation of {text}", subject=index)
        self.manifest({"manifests": [referrer]}, INDEX, tag)
        return str(index["digest"])

    def layer(self, text: str) -> str:
        """The digest of what `image` makes of a text."""
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    def has(self, blob: str) -> bool:
        return self._client.get(f"/blobs/{blob}").status_code == 200

    def can_pull(self, reference: str) -> bool:
        """With every part, down to the last blob."""
        answer = self._client.get(f"/manifests/{reference}", headers={"Accept": f"{INDEX}, {IMAGE}"})
        if answer.status_code != 200:
            return False
        document = answer.json()
        blobs = [document["config"], *document["layers"]] if "layers" in document else []
        return all(self.can_pull(part["digest"]) for part in document.get("manifests", ())) and all(
            self.has(part["digest"]) for part in blobs
        )

    def is_whole(self, digest: str) -> bool:
        """The image and both its signatures."""
        tag = digest.replace(":", "-")
        return all(self.can_pull(one) for one in (digest, f"{tag}.sig", tag))
