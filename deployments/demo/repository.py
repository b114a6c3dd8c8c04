"""A real Git repository of the example application, one commit per release, made in a temporary place."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plumbum import local

from delivery.errors import DeliveryError
from delivery.source import Sha

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "dealbrain"
# What a working copy of the example may hold besides its sources.
LEFT_OUT = ("releases", "faults", "node_modules", "dist", "__pycache__", ".venv", "test-results", ".pytest_cache", ".ruff_cache")


@dataclass(frozen=True)
class ApplicationRepository:
    """The example's repository at `path`. Each release is the base with the overlays of all releases up to it."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> "ApplicationRepository":
        path.mkdir(parents=True, exist_ok=False)
        repository = cls(path)
        repository.git("init", "--quiet", "--initial-branch=main")
        repository.git("config", "user.name", "Ada Example")
        repository.git("config", "user.email", "ada@dealbrain.example")
        return repository

    def commit_release(self, version: str) -> Sha:
        """The commit of a release of the example, on main."""
        self._lay_base()
        for overlay in self._overlays_up_to(version):
            shutil.copytree(overlay, self.path, dirs_exist_ok=True)
        return self.commit(f"Release {version}")

    def commit_fault(self, name: str) -> Sha:
        """A commit with one of the example's faults on top of what is there."""
        fault = EXAMPLE / "faults" / name
        if not fault.is_dir():
            known = ", ".join(sorted(folder.name for folder in (EXAMPLE / "faults").iterdir() if folder.is_dir()))
            raise DeliveryError(f"The example has no fault {name!r}.", next=f"take one of: {known}.")
        shutil.copytree(fault, self.path, dirs_exist_ok=True)
        return self.commit(f"Break {name}")

    def commit(self, message: str) -> Sha:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.head()

    def head(self) -> Sha:
        return Sha(self.git("rev-parse", "HEAD").strip())

    def tag(self, name: str) -> None:
        self.git("tag", "--annotate", name, "--message", name)

    def git(self, *arguments: str) -> str:
        output: str = local["git"]["-C", str(self.path)][arguments]()
        return output

    def _lay_base(self) -> None:
        for old in self.path.iterdir():
            if old.name != ".git":
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        shutil.copytree(EXAMPLE, self.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT_OUT))

    def _overlays_up_to(self, version: str) -> Sequence[Path]:
        overlays = sorted((folder for folder in (EXAMPLE / "releases").iterdir() if folder.is_dir()), key=lambda folder: folder.name)
        names = [folder.name for folder in overlays]
        if version not in names:
            raise DeliveryError(f"The example has no release {version!r}.", next=f"take one of: {', '.join(names)}.")
        return overlays[: names.index(version) + 1]
