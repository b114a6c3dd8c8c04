"""Who sits at this terminal."""

import getpass
import subprocess

from delivery.errors import InvalidSettings


def name_of_person(given: str | None) -> str:
    """The name that was given, else git's user.name, else the login name. It is a claim, not a proof: see SECURITY.md."""
    name = (given or _git_name() or _login_name()).strip()
    if not name:
        raise InvalidSettings("Nobody knows who you are.", next="pass --as NAME.")
    return name


def _git_name() -> str:
    try:
        asked = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip()


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
