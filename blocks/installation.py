"""The settings of a local installation as one file, so that a terminal finds what a demo or a test has started."""

import json
from collections.abc import Mapping
from pathlib import Path

from delivery.errors import InvalidSettings

_PREFIXES = ("GREENROOM_", "PREFECT_", "DO_NOT_TRACK")


def settings_file(folder: Path) -> Path:
    return folder / "settings.json"


def write_settings(folder: Path, settings: Mapping[str, str]) -> None:
    """Environment variables by name. Only their owner may read them, since a database's address may hold a password."""
    file = settings_file(folder)
    file.touch(mode=0o600)
    file.write_text(json.dumps(dict(settings), indent=2), encoding="utf-8")


def read_settings(folder: Path) -> dict[str, str]:
    """Raises `InvalidSettings` when the folder holds no installation, or variables that are not an installation's."""
    file = settings_file(folder)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidSettings(f"{folder} holds no installation: there is no {file.name}.", next="start one with `make demo`.") from None
    except (OSError, ValueError) as broken:
        raise InvalidSettings(f"{file} cannot be read ({type(broken).__name__}).", next="start the installation again.") from None
    strange = [name for name in document if not name.startswith(_PREFIXES)] if isinstance(document, dict) else ["no names at all"]
    if strange:
        raise InvalidSettings(f"{file} has {', '.join(strange)}, expected settings of Greenroom and Prefect only.", next="start it again.")
    return {str(name): str(value) for name, value in document.items()}
