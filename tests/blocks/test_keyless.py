"""Signing without a key: what Sigstore's own library makes of a whole instance of it, and what does not count."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from blocks.keyless import KeylessSigning
from blocks.signing import KeyFolder, SigningKey, make_key_pair
from delivery.dsse import IN_TOTO, Envelope, NotProven, read_envelope
from delivery.errors import DeliveryError, InvalidSettings, TransientError
from delivery.statement import Statement, Subject
from tests.sigstore_server import ISSUER, WORKFLOW, Sigstore, sigstore

pytestmark = pytest.mark.processes
WORDS = Statement((Subject("api", "a" * 64),), "https://slsa.dev/provenance/v1", {"built": "here"}).written()
CI = "ci.sigstore.toml"
VARIABLE = "CI_TOKEN"


@dataclass
class House:
    """One that trusts what the main branch's workflow signs."""

    sigstore: Sigstore
    folder: Path
    signing: KeylessSigning
    monkeypatch: pytest.MonkeyPatch

    def sign(self, token: str) -> Envelope:
        self.monkeypatch.setenv(VARIABLE, token)
        return self.signing.sign(IN_TOTO, WORDS)

    def trust(self, *, issuer: str = ISSUER, identity: str = WORKFLOW, root: str = "sigstore-root.json") -> None:
        (self.folder / CI).write_text(f'issuer = "{issuer}"\nidentity = "{identity}"\nroot = "{root}"\n')

    def signer_of(self, envelope: Envelope) -> str | None:
        return KeyFolder(self.folder).signer_of(envelope, [CI])


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with sigstore() as instance:
        config, _ = instance.write_trust(tmp_path)
        house = House(instance, tmp_path, KeylessSigning(token_variable=VARIABLE, trust_config=config), monkeypatch)
        house.trust()
        yield house


def test_what_the_trusted_identity_signed_is_known_also_when_nobody_can_be_asked(house: House) -> None:
    envelopes = [house.sign(house.sigstore.token()) for _ in range(3)]
    house.sigstore.status = {"/api/v1/log/entries": 503, "/api/v2/signingCert": 503}
    assert [house.signer_of(read_envelope(envelope.written())) for envelope in envelopes] == [CI] * 3
    assert len(house.sigstore.entries) == 3


@pytest.mark.parametrize(
    "other",
    [
        {"identity": WORKFLOW.replace("main", "mine")},
        {"identity": WORKFLOW.removesuffix("main")},
        {"issuer": "https://elsewhere.example.org"},
    ],
)
def test_another_identity_or_one_that_somebody_else_vouches_for_does_not_count(house: House, other: dict[str, str]) -> None:
    envelope = house.sign(house.sigstore.token(other.get("identity", WORKFLOW), issuer=other.get("issuer", ISSUER)))
    assert house.signer_of(envelope) is None
    house.trust(**other)
    assert house.signer_of(envelope) == CI


def test_another_instance_of_sigstore_vouches_for_nothing(house: House, tmp_path: Path) -> None:
    with sigstore() as stranger:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        config, _ = stranger.write_trust(elsewhere)
        house.monkeypatch.setenv(VARIABLE, stranger.token())
        forged = KeylessSigning(token_variable=VARIABLE, trust_config=config).sign(IN_TOTO, WORDS)
    assert house.signer_of(forged) is None


def test_no_part_of_a_bundle_can_be_changed(house: House) -> None:
    bundle = json.loads(house.sign(house.sigstore.token()).written())
    other = json.loads(house.sign(house.sigstore.token()).written())
    for part in ("payload", "signatures"):
        changed = json.loads(json.dumps(bundle))
        forged = house.signing.sign(IN_TOTO, WORDS.replace(b"here", b"there")).written()
        changed["dsseEnvelope"][part] = json.loads(forged)["dsseEnvelope"][part]
        assert house.signer_of(read_envelope(json.dumps(changed).encode())) is None
    for part in ("certificate", "tlogEntries"):
        changed = json.loads(json.dumps(bundle))
        changed["verificationMaterial"][part] = other["verificationMaterial"][part]
        assert house.signer_of(read_envelope(json.dumps(changed).encode())) is None
    late = json.loads(json.dumps(bundle))
    late["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = "4102444800"
    assert house.signer_of(read_envelope(json.dumps(late).encode())) is None


def test_words_that_were_put_beside_a_good_bundle_do_not_count(house: House) -> None:
    good = house.sign(house.sigstore.token())
    assert house.signer_of(Envelope(IN_TOTO, WORDS.replace(b"here", b"there"), good.signatures, bundle=good.bundle)) is None
    assert house.signer_of(Envelope("application/json", WORDS, good.signatures, bundle=good.bundle)) is None


def test_a_key_s_signature_is_no_identity_s_and_both_may_be_trusted(house: House) -> None:
    make_key_pair(house.folder / "release.key", house.folder / "release.pub")
    by_key = SigningKey(file=house.folder / "release.key").sign(IN_TOTO, WORDS)
    keys = KeyFolder(house.folder)
    assert house.signer_of(by_key) is None
    assert keys.signer_of(by_key, [CI, "release.pub"]) == "release.pub"
    assert keys.signer_of(house.sign(house.sigstore.token()), ["release.pub", CI]) == CI
    assert keys.signer_of(house.sign(house.sigstore.token()), ["release.pub"]) is None


@pytest.mark.parametrize("path", ["/api/v2/signingCert", "/api/v1/log/entries"])
def test_a_sigstore_that_does_not_answer_is_asked_again_later(house: House, path: str) -> None:
    house.sigstore.status = {path: 503}
    with pytest.raises(TransientError, match="Sigstore did not answer"):
        house.sign(house.sigstore.token())


def test_a_token_that_does_not_do_is_an_error_that_does_not_repeat_it(house: House) -> None:
    tokens = [house.sigstore.token(lasts=-60), house.sigstore.token(audience="another"), Sigstore().token(), "no token"]
    for token in tokens:
        with pytest.raises(DeliveryError, match="Nothing was signed without a key") as refused:
            house.sign(token)
        assert not isinstance(refused.value, TransientError)
        assert token not in f"{refused.value} {refused.value.__cause__} {refused.value.next}"
    assert not house.sigstore.entries


def test_without_a_token_nobody_is_asked(house: House) -> None:
    assert not house.signing.has_token()
    with pytest.raises(DeliveryError, match="no OIDC token is at hand"):
        house.signing.sign(IN_TOTO, WORDS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        'issuer = "https://ci.example.org"',
        'issuer = "x"\nidentity = "y"',
        "issuer = ",
        'issuer = "https://a"\nidentity = "b"\nmore = 1',
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_and_never_nobody(house: House, text: str) -> None:
    envelope = house.sign(house.sigstore.token())
    (house.folder / CI).write_text(text)
    with pytest.raises(InvalidSettings, match=r"ci\.sigstore\.toml cannot be used"):
        house.signer_of(envelope)


@pytest.mark.parametrize("root", ["missing.json", "ci.sigstore.toml"])
def test_a_trusted_root_that_cannot_be_read_is_an_error_and_never_nobody(house: House, root: str) -> None:
    house.trust(root=root)
    with pytest.raises(InvalidSettings, match=r"The trusted root .* cannot be used"):
        house.signer_of(house.sign(house.sigstore.token()))


def test_a_bundle_without_an_envelope_is_refused() -> None:
    with pytest.raises(NotProven, match="cannot be read"):
        read_envelope(b'{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","messageSignature":{}}')
