"""People with SSH keys, and the file that says whose signatures count."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from blocks.ssh import sign


@dataclass(frozen=True)
class Person:
    name: str
    key: Path

    @classmethod
    def with_key(cls, name: str, folder: Path, *, kind: str = "ed25519") -> "Person":
        key = folder / f"{name.split(maxsplit=1)[0].lower()}-{len(list(folder.glob('*.pub')))}"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", str(key)], check=True)
        return cls(name, key)

    @property
    def line(self) -> str:
        return f'"{self.name}" namespaces="greenroom" {self.key.with_name(self.key.name + ".pub").read_text()}'

    def signs(self, message: bytes) -> str:
        return sign(message, self.key)


def allow(file: Path, *people: Person) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(person.line for person in people))
