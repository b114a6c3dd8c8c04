"""A key that lies in AWS KMS: its stand-in holds real keys, and answers over HTTP."""

import socket
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto.kms.exceptions import ValidationException
from moto.kms.responses import KmsResponse
from moto.kms.utils import ECDSAPrivateKey
from moto.server import ThreadedMotoServer
from pydantic import ValidationError

from blocks.signing import KeyFolder, SigningKey
from delivery.dsse import IN_TOTO, Envelope, read_envelope
from delivery.errors import InvalidSettings, TransientError

pytestmark = pytest.mark.processes


class SignsDigests(ECDSAPrivateKey):
    """Moto takes a digest for one more message and hashes it again; AWS does not."""

    def sign(self, message: bytes, signing_algorithm: str) -> bytes:
        assert signing_algorithm == "ECDSA_SHA_256"
        return self.private_key.sign(message, ec.ECDSA(Prehashed(hashes.SHA256())))


def _sign_digests_only(response: KmsResponse) -> str:
    if response._get_param("MessageType") != "DIGEST":
        raise ValidationException("the stand-in signs digests only")
    return _sign(response)


_sign = KmsResponse.sign


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedMotoServer]:
    monkeypatch.setattr(ECDSAPrivateKey, "sign", SignsDigests.sign)
    monkeypatch.setattr(KmsResponse, "sign", _sign_digests_only)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", f"http://{host}:{port}")
    for name, value in {"AWS_DEFAULT_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(name, value)
    yield server
    server.stop()


def a_key(spec: str = "ECC_NIST_P256") -> str:
    made = boto3.client("kms").create_key(KeyUsage="SIGN_VERIFY", KeySpec=spec)
    return str(made["KeyMetadata"]["KeyId"])


@pytest.mark.usefixtures("kms")
def test_what_a_key_in_kms_signed_is_known_by_its_public_half_and_by_no_other(tmp_path: Path) -> None:
    mine, other = SigningKey(aws_kms=a_key()), SigningKey(aws_kms=a_key())
    (tmp_path / "release.pub").write_bytes(mine.public_pem())
    folder = KeyFolder(tmp_path)
    assert folder.signer_of(read_envelope(mine.sign(IN_TOTO, b"words" * 5000).written()), ["release.pub"]) == "release.pub"
    assert folder.signer_of(other.sign(IN_TOTO, b"words" * 5000), ["release.pub"]) is None
    changed = Envelope(IN_TOTO, b"other words", mine.sign(IN_TOTO, b"words").signatures)
    assert folder.signer_of(changed, ["release.pub"]) is None


@pytest.mark.usefixtures("kms")
@pytest.mark.parametrize("spec", ["RSA_2048", "ECC_NIST_P384"])
def test_a_key_of_another_kind_is_refused(spec: str) -> None:
    with pytest.raises(InvalidSettings, match=r"in AWS KMS cannot be used: .*expected an asymmetric key ECC_NIST_P256"):
        SigningKey(aws_kms=a_key(spec)).sign(IN_TOTO, b"words")


@pytest.mark.usefixtures("kms")
def test_a_key_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(InvalidSettings, match=r"alias/nobody in AWS KMS cannot be used: AWS KMS answered NotFoundException"):
        SigningKey(aws_kms="alias/nobody").sign(IN_TOTO, b"words")


def test_a_kms_that_does_not_answer_is_asked_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        for name, value in {"AWS_DEFAULT_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(TransientError, match="AWS KMS did not answer"):
            SigningKey(aws_kms="alias/greenroom").sign(IN_TOTO, b"words")


def test_a_key_lies_in_one_place() -> None:
    with pytest.raises(ValidationError, match="exactly one of file, variable and aws_kms"):
        SigningKey(aws_kms="alias/greenroom", variable="KEY")
