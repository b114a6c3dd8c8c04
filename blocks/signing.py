"""Signing keys and the public keys that are trusted. A block knows where its private key lies, never the key: whoever reaches Prefect's
API can read blocks.
"""

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from prefect.blocks.core import Block
from pydantic import Field, model_validator

from delivery.dsse import Envelope, Keys, Signature, Signer, signed_bytes
from delivery.errors import InvalidSettings

if TYPE_CHECKING:
    from blocks.kms import KmsKey

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
_DETERMINISTIC = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)  # signed twice, the same envelope: what is put twice is one
_EXPECTED = "an unencrypted PKCS #8 PEM of an ECDSA P-256 or Ed25519 key"
LARGEST_KEY_FILE = 64 * 1024
KEYLESS = ".sigstore.toml"


class SigningKey(Block):
    """Where the private key lies by which releases are signed: a file that its owner alone can read, a variable of the worker, or AWS KMS,
    which signs and gives the key to nobody.
    """

    _block_type_slug = "signing-key"
    _block_type_name = "Signing key"

    file: Path | None = Field(default=None, description="PEM file, mode 0600, on every machine that runs the pipeline.")
    variable: str | None = Field(default=None, pattern=r"^[A-Z][A-Z0-9_]{0,99}$", description="Environment variable that holds the PEM.")
    aws_kms: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9:/_-]{1,256}$", description="Id, alias or ARN of a P-256 key in AWS KMS."
    )

    @model_validator(mode="after")
    def _is_one_place(self) -> "SigningKey":
        if sum(place is not None for place in (self.file, self.variable, self.aws_kms)) != 1:
            raise ValueError("expected exactly one of file, variable and aws_kms")
        return self

    def sign(self, payload_type: str, payload: bytes) -> Envelope:
        """The key is read for this one signature and forgotten."""
        data = signed_bytes(payload_type, payload)
        if self.aws_kms is not None:
            kept = _kms(self.aws_kms)
            return Envelope(payload_type, payload, (Signature(key_id(kept.public_key()), kept.sign(data)),))
        key = self._key()
        value = key.sign(data) if isinstance(key, ed25519.Ed25519PrivateKey) else key.sign(data, _DETERMINISTIC)
        return Envelope(payload_type, payload, (Signature(key_id(key.public_key()), value),))

    def public_pem(self) -> bytes:
        """What belongs into the folder of trusted keys."""
        return _pem(_kms(self.aws_kms).public_key() if self.aws_kms is not None else self._key().public_key())

    def _key(self) -> PrivateKey:
        try:
            key = serialization.load_pem_private_key(self._text(), password=None)
        except (ValueError, TypeError):
            raise self._unusable("it holds something else") from None
        if isinstance(key, ed25519.Ed25519PrivateKey) or _is_p256(key):
            return key
        raise self._unusable("it holds a key of another kind")

    def _text(self) -> bytes:
        if self.file is None:
            text = os.environ.get(str(self.variable), "")
            if not text:
                raise self._unusable("it is not set")
            return text.encode()
        try:
            mode = self.file.stat().st_mode
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise self._unusable(f"others may read it (mode {stat.S_IMODE(mode):04o}, expected 0600)")
            return self.file.read_bytes()
        except OSError as broken:
            raise self._unusable(type(broken).__name__) from None

    def _unusable(self, why: str) -> InvalidSettings:
        place = f"file {self.file}" if self.file else f"variable {self.variable}"
        return InvalidSettings(f"The signing key in {place} cannot be used: {why}; expected {_EXPECTED}.", next="see docs/operating.md.")


_: type[Signer] = SigningKey


class KeyFolder:
    """Public keys as PEM files in one folder, and those who sign without a key, as `*.sigstore.toml`. They are read anew each time: a file
    that was taken away counts no longer.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def signer_of(self, envelope: Envelope, trusted: Sequence[str]) -> str | None:
        """Raises `InvalidSettings` when a trusted key cannot be read: who may sign must never depend on a broken file."""
        data = envelope.signed_bytes
        keys = {name: self._key(name) for name in trusted if not name.endswith(KEYLESS)}
        for name in trusted:
            if name.endswith(KEYLESS):
                from blocks.keyless import Signatories  # noqa: PLC0415  Sigstore's library is slow to import, and most do without

                if Signatories(self._folder).signed(name, envelope):
                    return name
            elif any(_fits(keys[name], one.value, data) for one in envelope.signatures):
                return name
        return None

    def _key(self, name: str) -> PublicKey:
        file = self._folder / name
        try:
            if file.stat().st_size > LARGEST_KEY_FILE:
                raise _no_key(file, "it is too large")
            key = serialization.load_pem_public_key(file.read_bytes())
        except OSError as broken:
            raise _no_key(file, type(broken).__name__) from None
        except ValueError:
            raise _no_key(file, "it holds something else") from None
        if isinstance(key, ed25519.Ed25519PublicKey) or (
            isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
        ):
            return key
        raise _no_key(file, "it holds a key of another kind")


__: type[Keys] = KeyFolder


def make_key_pair(private: Path, public: Path) -> None:
    """A new ECDSA P-256 key, as cosign knows them; one that is there stays, and its public half is written anew."""
    private.parent.mkdir(parents=True, exist_ok=True)
    public.parent.mkdir(parents=True, exist_ok=True)
    if not private.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        half_done = private.with_name(f".{private.name}.{os.getpid()}")
        with os.fdopen(os.open(half_done, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(pem)
        half_done.rename(private)
    public.write_bytes(SigningKey(file=private).public_pem())


def key_id(key: PublicKey) -> str:
    """SHA-256 of the key as DER."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _fits(key: PublicKey, signature: bytes, data: bytes) -> bool:
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
        else:
            key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _kms(name: str) -> "KmsKey":
    from blocks.kms import KmsKey  # noqa: PLC0415  AWS' library takes a third of a second, and most keys lie elsewhere

    return KmsKey(name)


def _is_p256(key: object) -> TypeGuard[ec.EllipticCurvePrivateKey]:
    return isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)


def _pem(key: PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _no_key(file: Path, why: str) -> InvalidSettings:
    return InvalidSettings(
        f"The trusted key {file} cannot be used: {why}; expected a PEM of an ECDSA P-256 or Ed25519 public key.",
        next="put it there (docs/operating.md), or correct provenance.keys of the environment file.",
    )
