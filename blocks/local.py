"""The local source of blocks: one TOML file of this installation, from which `deployments.register` fills Prefect and from which the
command line builds the very same blocks when Prefect's server does not run.
"""

import difflib
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from prefect.blocks.core import Block
from pydantic import ValidationError

from blocks.git import GitCredential
from blocks.keyless import KeylessSigning
from blocks.metrics import TraefikMetrics
from blocks.notifier import SlackNotifier
from blocks.prometheus import PrometheusMetrics
from blocks.registry import OciRegistry
from blocks.secrets import EnvironmentSecrets, ToolToken, known
from blocks.settings import Settings
from blocks.signing import SigningKey
from blocks.targets import TARGETS
from blocks.toml_text import text_of, toml_of
from blocks.webhook import WebhookNotifier
from delivery.errors import InvalidSettings

_WRITE_IT = "write it (docs/operating.md shows one), or set GREENROOM_BLOCKS_FILE."

# What stands for others stands first: a block is saved after those that it holds.
BLOCK_TYPES: tuple[type[Block], ...] = (
    EnvironmentSecrets,
    GitCredential,
    ToolToken,
    SigningKey,
    KeylessSigning,
    OciRegistry,
    TraefikMetrics,
    PrometheusMetrics,
    SlackNotifier,
    WebhookNotifier,
    *TARGETS,
)


def slug_of(kind: type[Block]) -> str:
    """The name of a block type in references, for instance `docker-target`."""
    return kind.get_block_type_slug()


def local_blocks(settings: Settings) -> Mapping[tuple[str, str], Block]:
    """Every block of the local file by (type slug, name), held ones before their holders. Raises `InvalidSettings` with every mistake.

    The file holds secrets, so one that others than its owner can read is refused.
    """
    return _LocalFile(settings.local_blocks_file).blocks()


class _LocalFile:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._document = _read_private(file)
        self._made: dict[tuple[str, str], Block] = {}
        self._mistakes: list[str] = []

    def blocks(self) -> Mapping[tuple[str, str], Block]:
        kinds = {slug_of(kind): kind for kind in BLOCK_TYPES}
        for slug in self._document.keys() - kinds.keys():
            close = difflib.get_close_matches(slug, kinds, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            self._mistakes.append(f"{slug}: got an unknown type of block, expected one of: {', '.join(kinds)}{hint}")
        for slug, kind in kinds.items():
            for name in self._sections(slug):
                self._block(kind, name)
        if self._mistakes:
            lines = "\n".join(f"{self._file} {mistake}" for mistake in self._mistakes)
            raise InvalidSettings(lines, next="correct the blocks file.")
        return self._made

    def _sections(self, slug: str) -> Mapping[str, Any]:
        found = self._document.get(slug, {})
        if isinstance(found, dict):
            return found
        self._mistakes.append(f"{slug}: got a value, expected sections like [{slug}.production]")
        return {}

    def _block(self, kind: type[Block], name: str) -> Block | None:
        key = (slug_of(kind), name)
        if key in self._made:
            return self._made[key]
        here = f"{key[0]}.{name}"
        section = self._sections(key[0]).get(name)
        if not isinstance(section, dict):
            self._mistakes.append(f"{here}: got no section, expected [{here}]")
            return None
        values = dict(section)
        for field in values.keys() - kind.model_fields.keys():
            self._mistakes.append(f"{here}.{field}: got an unknown key, expected one of: {', '.join(kind.model_fields)}")
            del values[field]
        for field, held in _held_blocks(kind):
            if isinstance(values.get(field), str):
                values[field] = self._block(held, values[field].removeprefix(f"{slug_of(held)}/"))
        try:
            self._made[key] = known(kind(**values))
        except ValidationError as wrong:
            self._mistakes += [
                f"{here}.{'.'.join(map(str, error['loc']))}: {_mistake(error['msg'])}"
                for error in wrong.errors(include_input=False, include_url=False, include_context=False)
            ]
        except InvalidSettings as wrong:
            self._mistakes.append(f"{here}: {wrong.what}")
        return self._made.get(key)


def _mistake(told: str) -> str:
    """A validator of ours tells what was got itself; of a value that only does not fit nothing is shown."""
    said = told.removeprefix("Value error, ")
    return said if said.startswith("got ") else f"got a value that does not fit, expected: {said}"


def _held_blocks(kind: type[Block]) -> Iterator[tuple[str, type[Block]]]:
    """The fields of a block type that hold another block: there the file has that block's name."""
    for field, described in kind.model_fields.items():
        for inner in (described.annotation, *get_args(described.annotation)):
            if isinstance(inner, type) and issubclass(inner, Block):
                yield field, inner


def _read_private(file: Path) -> Mapping[str, Any]:
    try:
        mode = file.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InvalidSettings(
                f"{file} holds secrets and others may read it: got mode {stat.S_IMODE(mode):04o}, expected 0600.", next=f"chmod 600 {file}"
            )
    except FileNotFoundError:
        raise InvalidSettings(f"There is no blocks file {file}.", next=_WRITE_IT) from None
    except OSError as broken:
        raise InvalidSettings(f"{file} cannot be read ({type(broken).__name__}).", next="make it a readable UTF-8 file.") from None
    return toml_of(file, text_of(file, next_step=_WRITE_IT))
