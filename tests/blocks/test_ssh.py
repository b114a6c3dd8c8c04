import subprocess
from pathlib import Path

import pytest

from blocks.ssh import SshSignatures, armoured, sign
from delivery.errors import DeliveryError, InvalidSettings
from tests.people import Person, allow

MESSAGE = b"greenroom approval v1\nrequest 7\n"
FILE = "allowed_signers"


@pytest.fixture
def bea(tmp_path: Path) -> Person:
    person = Person.with_key("Bea Example", tmp_path)
    allow(tmp_path / FILE, person)
    return person


def signer(folder: Path, message: bytes, signature: str) -> str | None:
    return SshSignatures(folder).signer_of(message, signature, FILE)


def test_a_signature_tells_the_person_whose_key_it_is(tmp_path: Path, bea: Person) -> None:
    assert signer(tmp_path, MESSAGE, bea.signs(MESSAGE)) == "Bea Example"


def test_lines_that_a_form_has_run_together_are_the_same_signature(tmp_path: Path, bea: Person) -> None:
    assert signer(tmp_path, MESSAGE, " " + bea.signs(MESSAGE).replace("\n", " ")) == "Bea Example"


def test_of_other_words_it_is_nobodys(tmp_path: Path, bea: Person) -> None:
    assert signer(tmp_path, MESSAGE + b"x", bea.signs(MESSAGE)) is None


def test_a_strangers_signature_is_nobodys(tmp_path: Path, bea: Person) -> None:
    del bea
    assert signer(tmp_path, MESSAGE, Person.with_key("Mallory", tmp_path).signs(MESSAGE)) is None


def test_a_signature_for_another_purpose_is_nobodys(tmp_path: Path, bea: Person) -> None:
    command = ["ssh-keygen", "-Y", "sign", "-n", "git", "-f", str(bea.key)]
    told = subprocess.run(command, input=MESSAGE, capture_output=True, check=True)
    assert signer(tmp_path, MESSAGE, told.stdout.decode()) is None


def test_a_key_past_its_last_day_is_nobodys(tmp_path: Path, bea: Person) -> None:
    (tmp_path / FILE).write_text(bea.line.replace("namespaces", 'valid-before="20200101",namespaces'))
    assert signer(tmp_path, MESSAGE, bea.signs(MESSAGE)) is None


def test_a_name_that_stands_for_anybody_is_no_person(tmp_path: Path, bea: Person) -> None:
    (tmp_path / FILE).write_text(bea.line.replace("Bea Example", "*@example.org"))
    assert signer(tmp_path, MESSAGE, bea.signs(MESSAGE)) is None


@pytest.mark.parametrize("signature", ["", "yes", "-----BEGIN SSH SIGNATURE-----\n;rm -rf\n-----END SSH SIGNATURE-----", "A" * 20_000])
def test_what_is_no_signature_is_nobodys(tmp_path: Path, bea: Person, signature: str) -> None:
    del bea
    assert armoured(signature) is None
    assert signer(tmp_path, MESSAGE, signature) is None


def test_a_broken_signature_is_nobodys(tmp_path: Path, bea: Person) -> None:
    broken = bea.signs(MESSAGE).replace("U1NIU0lH", "AAAAAAAA")
    assert signer(tmp_path, MESSAGE, broken) is None


def test_without_the_file_nobody_is_guessed(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"There is no file .*/allowed_signers"):
        signer(tmp_path, MESSAGE, "x")


def test_who_has_no_key_is_told_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="There is no SSH key"):
        sign(MESSAGE, tmp_path / "id")
    (tmp_path / "id").write_text("no key")
    (tmp_path / "id").chmod(0o600)
    with pytest.raises(DeliveryError, match="did not sign"):
        sign(MESSAGE, tmp_path / "id")
