"""People's SSH signatures, by ssh-keygen: its rules for `allowed_signers` (names, namespaces, days) are what counts."""

import re
import subprocess
import tempfile
from pathlib import Path

from delivery.errors import DeliveryError, InvalidSettings
from delivery.ports import PersonalSignatures

NAMESPACE = "greenroom"
LARGEST_SIGNATURE = 16 * 1024
ANSWER_SECONDS = 20.0
_SIGNATURE = re.compile(r"-----BEGIN SSH SIGNATURE-----([A-Za-z0-9+/=\s]+)-----END SSH SIGNATURE-----")
_PATTERN = re.compile(r"[*?!]")


class SshSignatures:
    """Against the files of people's keys in one folder. They are read at each question: who was taken out counts no longer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def signer_of(self, message: bytes, signature: str, allowed_signers: str) -> str | None:
        """The person whose key signed the message, as the file names them; None when it is nobody's. Raises `InvalidSettings` when the
        file is not there.
        """
        file = self._folder / allowed_signers
        if not file.is_file():
            raise InvalidSettings(f"There is no file {file}, which says whose signatures count.", next="write it (docs/operating.md).")
        whole = armoured(signature)
        if whole is None:
            return None
        with tempfile.NamedTemporaryFile("w", suffix=".sig", encoding="ascii") as kept:
            kept.write(whole)
            kept.flush()
            found = _ssh_keygen("find-principals", "-s", kept.name, "-f", str(file))
            # A name with a wildcard stands for anybody, and is no person.
            person = next((line.strip() for line in found.stdout.decode(errors="replace").splitlines()), "")
            if found.returncode or not person or _PATTERN.search(person):
                return None
            asked = ("verify", "-f", str(file), "-I", person, "-n", NAMESPACE, "-s", kept.name)
            return person if _ssh_keygen(*asked, message=message).returncode == 0 else None


_: type[PersonalSignatures] = SshSignatures


def sign(message: bytes, key: Path) -> str:
    """A signature of the message by the key in the file; of a public half, by the agent. Asks for a passphrase where the key has one."""
    if not key.is_file():
        raise InvalidSettings(f"There is no SSH key {key}.", next="pass --key with the file of yours.")
    try:
        done = subprocess.run(
            ["ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", str(key)], input=message, stdout=subprocess.PIPE, check=False
        )
    except OSError as broken:
        raise _no_program(broken) from None
    signature = armoured(done.stdout.decode(errors="replace"))
    if done.returncode or signature is None:
        raise DeliveryError(f"ssh-keygen did not sign with {key}.", next="look at what it said above; `ssh-add -l` shows the agent's keys.")
    return signature


def armoured(text: str) -> str | None:
    """A signature as ssh-keygen writes it, whatever a form has made of its lines; None when it is none."""
    found = _SIGNATURE.search(text) if len(text) <= LARGEST_SIGNATURE else None
    if found is None:
        return None
    body = "".join(found[1].split())
    lines = "\n".join(body[start : start + 70] for start in range(0, len(body), 70))
    return f"-----BEGIN SSH SIGNATURE-----\n{lines}\n-----END SSH SIGNATURE-----\n"


def _ssh_keygen(*words: str, message: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run(["ssh-keygen", "-Y", *words], input=message, capture_output=True, timeout=ANSWER_SECONDS, check=False)
    except OSError as broken:
        raise _no_program(broken) from None
    except subprocess.TimeoutExpired:
        raise DeliveryError("ssh-keygen did not answer.", next="look at this machine.") from None


def _no_program(broken: OSError) -> DeliveryError:
    return DeliveryError(f"ssh-keygen cannot be started ({type(broken).__name__}).", next="install openssh-client; `make setup` does.")
