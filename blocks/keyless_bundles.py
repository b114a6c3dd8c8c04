"""Sigstore's library, asked for bundles: one is made with the network, and verified without."""

from pathlib import Path

import requests
from cryptography.x509 import ExtensionNotFound
from sigstore.dsse import Statement
from sigstore.errors import Error as SigstoreError
from sigstore.models import Bundle, ClientTrustConfig, TrustedRoot
from sigstore.oidc import IdentityError, IdentityToken, detect_credential
from sigstore.sign import SigningContext
from sigstore.verify import Verifier
from sigstore.verify.policy import Identity

from delivery.errors import DeliveryError, InvalidSettings, TransientError

LARGEST_ROOT = 1024 * 1024
_BUSY = frozenset({429, 500, 502, 503, 504})


def ambient_token() -> str | None:
    """The OIDC token that this machine gives to what runs on it; None where it gives none."""
    try:
        return detect_credential()
    except IdentityError as broken:
        raise refused(f"this machine has an identity and does not give it ({type(broken).__name__})") from None


def signed_bundle(statement: bytes, token: str, trust_config: Path | None) -> bytes:
    """An in-toto statement, signed as whom the token names, as a bundle (JSON). No word of the library gets out: it may quote the token."""
    try:
        context = SigningContext.from_trust_config(_trust_config(trust_config))
        with context.signer(IdentityToken(token)) as signer:
            return signer.sign_dsse(Statement(statement)).to_json().encode()
    except DeliveryError:
        raise
    except Exception as broken:  # noqa: BLE001  the library has four families of errors, without a common ancestor
        if any(_passes(one) for one in (broken, broken.__cause__, broken.__context__)):
            raise TransientError(f"Sigstore did not answer ({type(broken).__name__}).", next="try again.") from None
        raise refused(type(broken).__name__) from None


def proven_words(bundle: bytes, root: TrustedRoot, *, issuer: str, identity: str) -> tuple[str, bytes] | None:
    """The type and the words that just this identity has signed, as a trusted log shows; None for whatever proves less."""
    try:
        return Verifier(trusted_root=root).verify_dsse(Bundle.from_json(bundle), Identity(identity=identity, issuer=issuer))
    except (SigstoreError, ValueError, ExtensionNotFound):
        return None


def trusted_root(file: Path | None) -> TrustedRoot:
    """Of an own instance, from its file; else the public one's, as this machine last knew it: nobody is asked."""
    if file is None:
        return ClientTrustConfig.production(offline=True).trusted_root
    try:
        if file.stat().st_size > LARGEST_ROOT:
            raise ValueError("too large")  # noqa: TRY301  told below like the rest
        return TrustedRoot.from_file(str(file))
    except (OSError, ValueError, SigstoreError) as broken:
        raise InvalidSettings(
            f"The trusted root {file} cannot be used ({type(broken).__name__}).", next="expected Sigstore's TrustedRoot as JSON."
        ) from None


def refused(why: str) -> DeliveryError:
    return DeliveryError(
        f"Nothing was signed without a key: {why}.",
        next="look at the pipeline's permission to get a token (GitHub: `id-token: write`), or remove the block keyless-signing.",
    )


def _trust_config(file: Path | None) -> ClientTrustConfig:
    if file is None:
        return ClientTrustConfig.production()
    try:
        return ClientTrustConfig.from_json(file.read_text())
    except (OSError, ValueError, SigstoreError) as broken:
        raise InvalidSettings(
            f"Sigstore's trust configuration {file} cannot be used ({type(broken).__name__}).",
            next="expected a ClientTrustConfig as JSON, or none for the public instance.",
        ) from None


def _passes(error: object) -> bool:
    """Whether it may be otherwise in a moment: nobody answered, or somebody who is busy."""
    if not isinstance(error, requests.RequestException):
        return False
    return error.response is None or error.response.status_code in _BUSY
