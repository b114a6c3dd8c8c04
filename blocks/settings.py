"""What people write: the settings of this installation, `greenroom.toml` and the environment files. Wrong input is refused as a whole,
every mistake at once, with the place, what was got, what was expected and what to do.
"""

import difflib
import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, FilePath, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from blocks.toml_file import TomlFile, expected
from delivery.addresses import why_not
from delivery.application import Application
from delivery.environment import Environment
from delivery.errors import InvalidSettings
from delivery.file_rules import problems_of_application, problems_of_environment
from delivery.literal_secrets import looks_secret
from delivery.redaction import know, passwords_in

PREFIX = "GREENROOM_"
ENVIRONMENT_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


def _default_work_dir() -> Path:
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home).expanduser() / "greenroom"


class Settings(BaseSettings):
    """How Greenroom is installed here, from the variables `GREENROOM_*` alone: no file is read behind anyone's back.

    `database_url` is the journal's (a SQLite file in `work_dir` when none is set); `repository` a Git URL or path ("" when none is set);
    `base_images` maps upstream references to local images; `registry` is the name of an `oci-registry` block; `blocks_file` is the local
    source of blocks; `keys_dir` has the public keys that environments trust; `builder` is this installation's name in provenance;
    `docs_url` is where the folder `docs` can be read ("": nowhere); `extra_ca` is a certificate authority that image builds trust
    beside the usual ones; `advisories` is the file of the team's own.
    Housekeeping keeps the images of the newest `keep_releases` releases beside what is needed, the newest
    `keep_backups` backups of each environment, and files, remains and further backups for `keep_days`.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    work_dir: Path = Field(default_factory=_default_work_dir)
    database_url: SecretStr = Field(default_factory=lambda read: SecretStr(f"sqlite:///{read['work_dir'] / 'journal.db'}"))
    repository: str = ""
    main_branch: str = Field(default="main", min_length=1)
    environments_dir: Path = Path(__file__).resolve().parent.parent / "deployments" / "environments"
    base_images: dict[str, str] = Field(default_factory=dict)
    lease_ttl_seconds: Annotated[float, Field(ge=1.0, le=3600.0, allow_inf_nan=False)] = 15.0
    registry: str = Field(default="default", min_length=1)
    ui_url: str = Field(default="http://127.0.0.1:4200", pattern=r"^https?://\S+$")
    docs_url: str = Field(default="", pattern=r"^(https?://\S+)?$")
    application_file: str = Field(default="greenroom.toml", min_length=1)
    blocks_file: Path | None = None
    keys_dir: Path = Field(default_factory=lambda read: read["environments_dir"] / "keys")
    builder: str = Field(default="urn:greenroom:builder", pattern=r"^[a-z][a-z0-9+.-]*:\S+$")
    extra_ca: FilePath | None = None
    advisories: Path | None = None
    keep_releases: Annotated[int, Field(ge=2, le=10_000)] = 10
    keep_backups: Annotated[int, Field(ge=2, le=10_000)] = 10
    keep_days: Annotated[float, Field(ge=1.0, le=3650.0, allow_inf_nan=False)] = 30.0

    @field_validator("work_dir", "environments_dir", "blocks_file", "keys_dir", "extra_ca", "advisories")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path.expanduser().absolute() if path else path

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith(("sqlite:///", "postgresql://", "postgresql+psycopg://", "postgres://")):
            raise ValueError("expected sqlite:///<path> or postgresql://user:password@host/database")
        return url

    @field_validator("ui_url", "docs_url")
    @classmethod
    def _without_login(cls, url: str) -> str:
        if url and (why := why_not(url, secret=False)):
            raise ValueError(why.partition(", ")[2])
        return url

    @property
    def local_blocks_file(self) -> Path:
        return self.blocks_file or self.work_dir / "blocks.toml"


def settings() -> Settings:
    """The settings as the environment has them now. Raises `InvalidSettings` naming every wrong variable, never the value of a secret."""
    found = _misspelt_variables()
    try:
        read = Settings()
    except SettingsError as wrong:  # a variable that should hold JSON and does not
        named = re.search(r'field "(\w+)"', str(wrong))
        found.append(f"{PREFIX}{named[1].upper() if named else '*'}: got text that is not JSON, expected a JSON object")
    except ValidationError as wrong:
        for error in wrong.errors(include_input=False, include_url=False):
            if error["type"] == "default_factory_not_called":  # its own cause stands in this list
                continue
            name = PREFIX + ".".join(map(str, error["loc"])).upper()
            value = os.environ.get(PREFIX + str(error["loc"][0]).upper(), "")
            hidden = error["loc"][:1] == ("database_url",) or looks_secret(value)
            got = "a value that is not shown" if hidden else repr(value)[:120]
            found.append(f"{name}: got {got}, expected {expected(error)}")
    else:
        if not found:
            know(passwords_in(read.database_url.get_secret_value()))
            return read
    raise InvalidSettings("\n".join(found), next="correct the variables and try again.") from None


# Read elsewhere, known here so that a misspelt one can be told from them.
_OTHER_VARIABLES = frozenset(PREFIX + name for name in ("DEBUG", "TEST_ALL", "HOME"))


def _misspelt_variables() -> list[str]:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    found = []
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known | _OTHER_VARIABLES:
            close = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.92)
            found += [f"{name}: got an unknown setting, expected {near} (did you mean it?)" for near in close]
    return found


def load_application(file: Path) -> Application:
    """`greenroom.toml` as a value. Raises `InvalidSettings` with every mistake, each as `file:line key: got …, expected …`."""
    document = TomlFile.read(file, next_step="write a greenroom.toml at the root of the application's repository.")
    application = document.parsed(Application, next_step="correct the file and commit it.")
    document.refuse((*application.problems(), *problems_of_application(application)), next_step="correct the file and commit it.")
    return application


def load_environment(name: str, folder: Path) -> Environment:
    """The environment file `<folder>/<name>.toml` as a value. Raises `InvalidSettings` with every mistake, as `load_application`."""
    known = environment_names(folder)
    if not ENVIRONMENT_NAME.fullmatch(name) or name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise InvalidSettings(
            f"Unknown environment: got {name[:80]!r}, expected one of: {', '.join(known) or 'none'} (files in {folder}).{hint}",
            next="correct the name, or write that environment's file.",
        )
    document = TomlFile.read(folder / f"{name}.toml", next_step="write the environment file.")
    environment = document.parsed(Environment, next_step="correct the environment file.")
    found = [*environment.problems(), *problems_of_environment(environment)]
    if environment.name != name:
        found.append(f"environment.name: got {environment.name!r}, expected {name!r}, the file's own name")
    after = environment.environment.after
    if after is not None and (after == name or after not in known):
        others = ", ".join(other for other in known if other != name) or "no other is there"
        found.append(f"environment.after: got {after!r}, expected another environment: {others}")
    elif after is not None and name in (chain := _all_before(after, folder)):
        way = " after ".join((name, *chain[: chain.index(name) + 1]))
        found.append(f"environment.after: got {after!r}, which makes a circle ({way}), expected a first one that comes after none")
    document.refuse(found, next_step="correct the environment file.")
    return environment


def _all_before(name: str, folder: Path) -> list[str]:
    """An environment and those that it comes after, the nearest first, to the first one or once around a circle. A file that cannot be
    read ends it: who asks for that environment is told.
    """
    chain = [name]
    while True:
        try:
            said = TomlFile.read(folder / f"{chain[-1]}.toml", next_step="write it.").data.get("environment")
        except InvalidSettings:
            return chain
        before = said.get("after") if isinstance(said, dict) else None
        if not isinstance(before, str) or not ENVIRONMENT_NAME.fullmatch(before):
            return chain
        chain.append(before)
        if before in chain[:-1]:
            return chain


def environment_names(folder: Path) -> list[str]:
    """The environments that have a file, in alphabetical order."""
    return sorted(file.stem for file in folder.glob("*.toml") if ENVIRONMENT_NAME.fullmatch(file.stem))
