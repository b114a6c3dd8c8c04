"""A Git repository of a test's own."""

import os
import subprocess
from pathlib import Path

from delivery.source import Sha

# Nobody's settings and no clock: the same commits have the same ids on every machine.
IDENTITY = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada Example",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada Example",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_AUTHOR_DATE": "2025-06-01T12:00:00+02:00",
    "GIT_COMMITTER_DATE": "2025-06-01T12:00:00+02:00",
}


class Repository:
    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.path, env={**os.environ, **IDENTITY}, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self, subject: str, **files: str) -> Sha:
        """A commit of `files`; in their names `__` is a slash and `_` before the last word a dot: `api__app_py` is api/app.py."""
        for name, text in files.items():
            folders, _, ending = name.rpartition("_")
            file = self.path / f"{folders.replace('__', '/')}.{ending}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", subject)
        return self.head()

    def tag(self, name: str) -> None:
        self.git("tag", name)

    def head(self) -> Sha:
        return Sha(self.git("rev-parse", "HEAD"))
