"""Signing without a key of one's own, where the pipeline can show who it is; and whose signatures of that kind count.

Sigstore binds a short-lived key to an OIDC identity and writes the signature into a log (https://docs.sigstore.dev/about/overview/). Its
library is imported when it is asked, by `keyless_bundles`: most installations have a key.
"""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from prefect.blocks.core import Block
from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from delivery.application import STRICT
from delivery.dsse import IN_TOTO, Envelope, Signer, read_envelope
from delivery.errors import DeliveryError, InvalidSettings

_Address = Annotated[str, StringConstraints(pattern=r"^https?://[^\s@]{1,400}$")]
_File = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]


class KeylessSigning(Block):
    """Signs as whom the pipeline runs, where an OIDC token is at hand: the machine's own (GitHub Actions, GitLab, Google Cloud, Buildkite),
    or one in a variable. Else `signing-key` signs.
    """

    _block_type_slug = "keyless-signing"
    _block_type_name = "Keyless signing"

    token_variable: str | None = Field(
        default=None, pattern=r"^[A-Z][A-Z0-9_]{0,99}$", description="Environment variable that holds the OIDC token (audience sigstore)."
    )
    trust_config: Path | None = Field(
        default=None, description="Sigstore's client trust configuration (JSON) of an instance of your own; else the public one."
    )

    def has_token(self) -> bool:
        """Whether this process may say who it is."""
        return self._token() is not None

    def sign(self, payload_type: str, payload: bytes) -> Envelope:
        """The bundle as an envelope. Raises `TransientError` when Sigstore does not answer, `DeliveryError` when it refuses the token: a
        token that is at hand and does not do is an error, and no reason to sign with another key.
        """
        from blocks.keyless_bundles import refused, signed_bundle  # noqa: PLC0415  half a second

        if payload_type != IN_TOTO:
            raise DeliveryError(f"Keyless signing is for statements, not for {payload_type[:80]}.", next="sign that with a key.")
        token = self._token()
        if token is None:
            raise refused("no OIDC token is at hand")
        return read_envelope(signed_bundle(payload, token, self.trust_config))

    def _token(self) -> str | None:
        if self.token_variable is not None:
            return os.environ.get(self.token_variable) or None
        from blocks.keyless_bundles import ambient_token  # noqa: PLC0415  half a second

        return ambient_token()


_: type[Signer] = KeylessSigning


@dataclass(frozen=True)
class Signatory:
    """Whose keyless signatures count: who they say they are, exactly, and who vouches for that. `root` is a file beside this one with the
    trusted root (JSON) of an instance of one's own; without it the public one's, as the library brings it.
    """

    __pydantic_config__ = STRICT

    issuer: _Address
    identity: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    root: _File | None = None


class Signatories:
    """The files `*.sigstore.toml` in the folder of keys; read anew each time, as keys are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def signed(self, name: str, envelope: Envelope) -> bool:
        """Whether the envelope's bundle proves that the one in the file signed just these bytes. Verified offline: certificate, time, log.

        Raises `InvalidSettings` when the file cannot be read: who may sign must never depend on a broken file.
        """
        from blocks.keyless_bundles import proven_words, trusted_root  # noqa: PLC0415  half a second

        who = self._read(name)
        root = trusted_root(self._folder / who.root if who.root else None)
        if not envelope.bundle:
            return False
        proven = proven_words(envelope.bundle, root, issuer=who.issuer, identity=who.identity)
        return proven == (envelope.payload_type, envelope.payload)

    def _read(self, name: str) -> Signatory:
        file = self._folder / name
        try:
            return TypeAdapter(Signatory).validate_python(tomllib.loads(file.read_text()))
        except ValidationError as wrong:
            why = "look at " + ", ".join(".".join(str(part) for part in error["loc"]) for error in wrong.errors())
        except (OSError, ValueError) as broken:
            why = type(broken).__name__
        raise InvalidSettings(
            f"{file} cannot be used: {why}; expected whose keyless signatures count (issuer, identity, and root for an own instance).",
            next="see docs/operating.md, Signed releases, and provenance.keys of the environment file.",
        )
