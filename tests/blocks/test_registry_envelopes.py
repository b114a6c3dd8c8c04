"""Signed envelopes beside images: in Debian's registry, which has no referrers API, and in one that has."""

import json
from collections.abc import Iterator

import httpx
import pytest

from blocks.registry import OciRegistry
from delivery.errors import DeliveryError, InvalidSettings
from delivery.image import ImageRef
from deployments.processes import free_ports
from deployments.stage import Registry
from tests.blocks.referring_registry import ReferringRegistry, referring_registry
from tests.signing import put_image

pytestmark = pytest.mark.processes

PROVENANCE = "https://slsa.dev/provenance/v1"
DSSE = "application/vnd.dsse.envelope.v1+json"
ENVELOPE = b'{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{"keyid":"","sig":"AA=="}]}'
OTHER = ENVELOPE.replace(b"AA==", b"AQ==")
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = Registry(tmp_path_factory.mktemp("registry"), free_ports(["registry"])["registry"])
    server.start()
    yield server.address
    server.stop()


@pytest.fixture
def referring() -> Iterator[ReferringRegistry]:
    with referring_registry() as server:
        yield server


@pytest.fixture(params=["debian", "referring"])
def image(request: pytest.FixtureRequest) -> ImageRef:
    server = request.getfixturevalue(request.param)
    return put_image(server if isinstance(server, str) else server.host, "team/app")


def block(image: ImageRef) -> OciRegistry:
    return OciRegistry(host=image.registry, namespace="team", insecure=True)


def asked(image: ImageRef, reference: str) -> httpx.Response:
    with httpx.Client(trust_env=False) as client:
        accept = {"Accept": "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"}
        return client.get(f"http://{image.registry}/v2/{image.repository}/manifests/{reference}", headers=accept)


def tag_of(image: ImageRef) -> str:
    return image.digest.replace(":", "-")


def test_a_sigstore_bundle_is_a_referrer_of_its_own_kind_and_no_attestation_by_key(image: ImageRef) -> None:
    registry, bundle = block(image), b'{"mediaType":"%b","dsseEnvelope":%b}' % (BUNDLE.encode(), ENVELOPE)
    registry.attach(image, ENVELOPE, predicate_type=PROVENANCE)
    registry.attach(image, bundle, predicate_type=PROVENANCE)
    assert set(registry.attached(image)) == {ENVELOPE, bundle}
    attestations = asked(image, f"{tag_of(image)}.att").json()["layers"]
    assert [layer["mediaType"] for layer in attestations] == [DSSE]


def test_what_is_put_beside_an_image_is_found_there(image: ImageRef) -> None:
    registry = block(image)
    assert registry.attached(image) == ()
    registry.attach(image, ENVELOPE, predicate_type=PROVENANCE)
    assert registry.attached(image) == (ENVELOPE,)


def test_put_twice_it_is_there_once(image: ImageRef) -> None:
    registry = block(image)
    for _ in range(2):
        registry.attach(image, ENVELOPE, predicate_type=PROVENANCE)
    assert registry.attached(image) == (ENVELOPE,)
    assert len(asked(image, f"{tag_of(image)}.att").json()["layers"]) == 1


def test_a_second_one_leaves_the_first_and_is_found_before_it(image: ImageRef) -> None:
    registry = block(image)
    registry.attach(image, ENVELOPE, predicate_type=PROVENANCE)
    registry.attach(image, OTHER, predicate_type=PROVENANCE)
    assert registry.attached(image) == (OTHER, ENVELOPE)


def test_envelopes_belong_to_one_image(image: ImageRef) -> None:
    block(image).attach(image, ENVELOPE, predicate_type=PROVENANCE)
    assert block(image).attached(put_image(image.registry, "team/app")) == ()


def test_the_image_keeps_its_digest(image: ImageRef) -> None:
    before = asked(image, image.digest).content
    block(image).attach(image, ENVELOPE, predicate_type=PROVENANCE)
    assert asked(image, image.digest).content == before


def test_cosigns_layout_holds_one_layer_per_envelope(image: ImageRef) -> None:
    block(image).attach(image, ENVELOPE, predicate_type=PROVENANCE)
    manifest = asked(image, f"{tag_of(image)}.att").json()
    (layer,) = manifest["layers"]
    assert (layer["mediaType"], layer["size"]) == (DSSE, len(ENVELOPE))
    assert layer["annotations"] == {"dev.cosignproject.cosign/signature": "", "predicateType": PROVENANCE}
    assert manifest["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"


def test_an_older_registry_gets_the_index_that_clients_keep(debian: str) -> None:
    image = put_image(debian, "team/app")
    for envelope in (ENVELOPE, OTHER):
        block(image).attach(image, envelope, predicate_type=PROVENANCE)
    index = asked(image, tag_of(image)).json()
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert [entry["artifactType"] for entry in index["manifests"]] == [DSSE, DSSE]
    manifest = asked(image, index["manifests"][0]["digest"]).json()
    assert manifest["subject"]["digest"] == image.digest
    assert manifest["subject"]["size"] == len(asked(image, image.digest).content)


def test_a_registry_with_the_referrers_api_gets_no_index(referring: ReferringRegistry) -> None:
    image = put_image(referring.host, "team/app")
    block(image).attach(image, ENVELOPE, predicate_type=PROVENANCE)
    assert asked(image, tag_of(image)).status_code == 404
    (entry,) = referring.referrers(image.digest)
    assert (entry["artifactType"], entry["annotations"]) == (DSSE, {"in-toto.io/predicate-type": PROVENANCE})


def test_a_referrer_is_found_without_cosigns_tag(image: ImageRef) -> None:
    block(image).attach(image, ENVELOPE, predicate_type=PROVENANCE)
    manifest = asked(image, f"{tag_of(image)}.att")
    with httpx.Client(trust_env=False) as client:
        emptied = json.dumps({**manifest.json(), "layers": []})
        url = f"http://{image.registry}/v2/{image.repository}/manifests/{tag_of(image)}.att"
        assert client.put(url, content=emptied, headers={"Content-Type": manifest.headers["Content-Type"]}).is_success
    assert block(image).attached(image) == (ENVELOPE,)


def test_a_blob_of_other_bytes_than_its_digest_says_is_refused(referring: ReferringRegistry) -> None:
    image = put_image(referring.host, "team/app")
    block(image).attach(image, ENVELOPE, predicate_type=PROVENANCE)
    (digest,) = [digest for digest, data in referring.blobs.items() if data == ENVELOPE]
    referring.blobs[digest] = OTHER
    with pytest.raises(DeliveryError, match="blob sha256:"):
        block(image).attached(image)


def test_an_upload_at_another_host_is_refused_before_a_login_goes_there(referring: ReferringRegistry) -> None:
    image = put_image(referring.host, "team/app")
    referring.elsewhere = "127.0.0.2:9"
    with pytest.raises(DeliveryError, match=r"wants an upload at another host \(127.0.0.2\)"):
        block(image).attach(image, ENVELOPE, predicate_type=PROVENANCE)


def test_an_image_of_another_registry_gets_nothing_here(image: ImageRef) -> None:
    with pytest.raises(InvalidSettings, match="is not in"):
        block(image).attach(ImageRef("ghcr.io", "team/app", image.digest), ENVELOPE, predicate_type=PROVENANCE)


SBOM = "application/vnd.cyclonedx+json"


def test_a_document_is_a_referrer_that_is_found_by_its_kind_and_is_no_envelope(image: ImageRef) -> None:
    registry = block(image)
    registry.attach(image, ENVELOPE, predicate_type=PROVENANCE)
    for _ in range(2):
        registry.attach_document(image, b'{"bomFormat":"CycloneDX"}', kind=SBOM)
    assert registry.documents(image, SBOM) == (b'{"bomFormat":"CycloneDX"}',)
    assert registry.documents(image, "text/plain") == ()
    assert registry.attached(image) == (ENVELOPE,)


def test_a_flood_of_envelopes_does_not_hide_a_document(image: ImageRef) -> None:
    registry = block(image)
    registry.attach_document(image, b"{}", kind=SBOM)
    for number in range(70):
        registry.attach(image, ENVELOPE.replace(b"AA==", b"%04d" % number), predicate_type=PROVENANCE)
    assert registry.documents(image, SBOM) == (b"{}",)


def test_a_document_belongs_to_its_image_in_what_housekeeping_reads(debian: str) -> None:
    image = put_image(debian, "team/described")
    registry = block(image)
    registry.attach_document(image, b"{}", kind=SBOM)
    (describing,) = (one for one in registry.stored("described") if one.subject == image.digest)
    registry.remove("described", describing.digest)
    assert registry.documents(image, SBOM) == ()
