import traceback
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pydantic import ValidationError

from blocks.signing import KeyFolder, SigningKey, make_key_pair
from delivery.dsse import IN_TOTO, Envelope, Signature
from delivery.errors import InvalidSettings
from tests.signing import Keyring


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.made_in(tmp_path)


def private_pem(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def a_key_file(tmp_path: Path, content: bytes, mode: int = 0o600) -> Path:
    file = tmp_path / "a.key"
    file.write_bytes(content)
    file.chmod(mode)
    return file


def test_what_was_signed_is_known_by_its_key_and_by_no_other(keyring: Keyring) -> None:
    folder = KeyFolder(keyring.folder)
    assert folder.signer_of(keyring.mine.sign(IN_TOTO, b"words"), ["release.pub"]) == "release.pub"
    assert folder.signer_of(keyring.stranger.sign(IN_TOTO, b"words"), ["release.pub"]) is None


def test_an_ed25519_key_signs_as_well(tmp_path: Path) -> None:
    key = SigningKey(file=a_key_file(tmp_path, private_pem(ed25519.Ed25519PrivateKey.generate())))
    (tmp_path / "release.pub").write_bytes(key.public_pem())
    assert KeyFolder(tmp_path).signer_of(key.sign(IN_TOTO, b"words"), ["release.pub"]) == "release.pub"


@pytest.mark.parametrize(("kind", "payload"), [(IN_TOTO, b"other words"), ("application/json", b"words")])
def test_neither_the_words_nor_their_type_can_be_changed(keyring: Keyring, kind: str, payload: bytes) -> None:
    signatures = keyring.mine.sign(IN_TOTO, b"words").signatures
    assert KeyFolder(keyring.folder).signer_of(Envelope(kind, payload, signatures), ["release.pub"]) is None


def test_the_key_id_in_an_envelope_is_only_a_hint(keyring: Keyring) -> None:
    mine, foreign = keyring.mine.sign(IN_TOTO, b"words").signatures[0], keyring.stranger.sign(IN_TOTO, b"words").signatures[0]
    claimed = Envelope(IN_TOTO, b"words", (Signature(mine.key_id, foreign.value),))
    assert KeyFolder(keyring.folder).signer_of(claimed, ["release.pub"]) is None


@pytest.mark.parametrize("value", [b"", b"x", b"\x00" * 64, b"0" * 5000])
def test_a_signature_of_another_shape_fits_nothing(keyring: Keyring, value: bytes) -> None:
    assert KeyFolder(keyring.folder).signer_of(Envelope(IN_TOTO, b"words", (Signature("", value),)), ["release.pub"]) is None


def test_signed_twice_it_is_the_same_envelope(keyring: Keyring) -> None:
    assert keyring.mine.sign(IN_TOTO, b"words") == keyring.mine.sign(IN_TOTO, b"words")


def test_a_key_that_is_taken_away_counts_no_longer(keyring: Keyring) -> None:
    folder, envelope = KeyFolder(keyring.folder), keyring.mine.sign(IN_TOTO, b"words")
    (keyring.folder / "release.pub").unlink()
    with pytest.raises(InvalidSettings, match=r"release.pub cannot be used: FileNotFoundError"):
        folder.signer_of(envelope, ["release.pub"])


@pytest.mark.parametrize("content", [b"", b"no key", b"x" * 70_000])
def test_a_trusted_key_that_cannot_be_read_is_an_error_and_never_a_no(keyring: Keyring, content: bytes) -> None:
    (keyring.folder / "broken.pub").write_bytes(content)
    with pytest.raises(InvalidSettings, match=r"broken.pub cannot be used"):
        KeyFolder(keyring.folder).signer_of(keyring.mine.sign(IN_TOTO, b"words"), ["release.pub", "broken.pub"])


def test_the_private_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    for _ in range(2):
        make_key_pair(tmp_path / "signing.key", tmp_path / "keys" / "release.pub")
    first = (tmp_path / "signing.key").read_bytes()
    make_key_pair(tmp_path / "signing.key", tmp_path / "keys" / "release.pub")
    assert (tmp_path / "signing.key").read_bytes() == first
    assert (tmp_path / "signing.key").stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in (tmp_path / "keys" / "release.pub").read_bytes()


def test_a_key_file_that_others_may_read_is_refused(keyring: Keyring) -> None:
    file = keyring.mine.file
    assert file is not None
    file.chmod(0o640)
    with pytest.raises(InvalidSettings, match=r"others may read it \(mode 0640, expected 0600\)"):
        keyring.mine.sign(IN_TOTO, b"words")


def test_a_key_may_lie_in_a_variable(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    assert keyring.mine.file is not None
    block = SigningKey(variable="RELEASE_KEY")
    with pytest.raises(InvalidSettings, match="variable RELEASE_KEY cannot be used: it is not set"):
        block.sign(IN_TOTO, b"words")
    monkeypatch.setenv("RELEASE_KEY", keyring.mine.file.read_text())
    assert block.sign(IN_TOTO, b"words") == keyring.mine.sign(IN_TOTO, b"words")


def test_the_block_knows_the_place_and_never_the_key(keyring: Keyring) -> None:
    assert keyring.mine.file is not None
    secret = keyring.mine.file.read_text().splitlines()[1]
    keyring.mine.sign(IN_TOTO, b"words")
    assert secret not in keyring.mine.model_dump_json()
    assert secret not in repr(vars(keyring.mine))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0LXdvcmRz\n-----END PRIVATE KEY-----\n",
        private_pem(ec.generate_private_key(ec.SECP384R1())),
    ],
)
def test_a_key_of_another_kind_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InvalidSettings, match=r"a.key cannot be used: it holds (something else|a key of another kind)") as refused:
        SigningKey(file=a_key_file(tmp_path, content)).sign(IN_TOTO, b"words")
    assert "c2VjcmV0" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("fields", [{}, {"file": "/a", "variable": "A"}, {"variable": "a b"}])
def test_a_block_names_exactly_one_place(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        SigningKey(**fields)
