"""Who sits at this terminal."""

import getpass
import subprocess
from pathlib import Path

from delivery.errors import InvalidSettings


def name_of_person(given: str | None) -> str:
    """The name that was given, else git's user.name, else the login name. It is a claim, not a proof: see SECURITY.md."""
    name = (given or _git_name() or _login_name()).strip()
    if not name:
        raise InvalidSettings("Nobody knows who you are.", next="pass --as NAME.")
    return name


def ssh_key() -> Path:
    """The key that Git signs with (user.signingkey, where it is a file), else the usual one."""
    configured = _git("user.signingkey")
    usual = Path.home() / ".ssh"
    candidates = [Path(configured).expanduser()] if configured.startswith(("/", "~")) else []
    candidates += [usual / name for name in ("id_ed25519", "id_ecdsa", "id_rsa")]
    return next((key for key in candidates if key.is_file()), usual / "id_ed25519")


def _git_name() -> str:
    return _git("user.name")


def _git(setting: str) -> str:
    try:
        asked = subprocess.run(["git", "config", setting], capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip()


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
