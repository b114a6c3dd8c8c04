"""A signing key that lies in AWS KMS and never leaves it (https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html)."""

import hashlib
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from delivery.errors import InvalidSettings, TransientError

ALGORITHM = "ECDSA_SHA_256"
# What AWS says when it is its own fault, or when it is asked too often.
_PASSING = frozenset({"ThrottlingException", "KMSInternalException", "DependencyTimeoutException", "ServiceUnavailable", "InternalFailure"})


class KmsKey:
    """`name` is a key's id, alias or ARN. Who we are to AWS, and in which region, comes from where AWS' own tools have it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def sign(self, data: bytes) -> bytes:
        """An ECDSA signature of the data's SHA-256, as DER. KMS gets the digest alone, so that the data may have any size."""
        digest = hashlib.sha256(data).digest()
        answer = self._ask("sign", Message=digest, MessageType="DIGEST", SigningAlgorithm=ALGORITHM)
        return bytes(answer["Signature"])

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Raises `InvalidSettings` for a key of another kind than P-256."""
        key = serialization.load_der_public_key(self._ask("get_public_key")["PublicKey"])
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
            return key
        raise self._unusable("it is a key of another kind")

    def _ask(self, what: str, **words: Any) -> Any:
        try:
            settings = Config(connect_timeout=5, read_timeout=15, retries={"max_attempts": 3, "mode": "standard"})
            client = boto3.client("kms", config=settings)
            return getattr(client, what)(KeyId=self._name, **words)
        except ClientError as refused:
            code = str(refused.response.get("Error", {}).get("Code", "an error"))
            if code in _PASSING:
                raise TransientError(f"AWS KMS did not sign: {code}.", next="try again.") from None
            raise self._unusable(f"AWS KMS answered {code}") from None
        except BotoCoreError as broken:
            if type(broken).__name__ in {"EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError"}:
                raise TransientError(f"AWS KMS did not answer ({type(broken).__name__}).", next="try again.") from None
            raise self._unusable(type(broken).__name__) from None

    def _unusable(self, why: str) -> InvalidSettings:
        return InvalidSettings(
            f"The signing key {self._name} in AWS KMS cannot be used: {why}; expected an asymmetric key ECC_NIST_P256 for SIGN_VERIFY.",
            next="look at the key, at the region and at what this machine may do in AWS (kms:Sign, kms:GetPublicKey).",
        )
