"""One environment's secrets, and the means to keep them out of whatever people read."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from prefect.blocks.core import Block
from prefect.types import SecretDict
from pydantic import BaseModel, Field, Secret, SecretStr, field_validator

from delivery.redaction import SHORTEST_SECRET, Redactor, know

_NUMBER = re.compile(r"[1-9][0-9]{0,5}")

Loaded = TypeVar("Loaded", bound=Block)


class EnvironmentSecrets(Block):
    """The secret variables of one environment, by name. They are asked for where they are sent, never before."""

    _block_type_slug = "environment-secrets"
    _block_type_name = "Environment secrets"

    values: SecretDict = Field(
        description="Name of the variable to its secret value, for instance DATABASE_URL; DATABASE_URL@2 is the second version of one that "
        "is being renewed, beside DATABASE_URL@1."
    )

    def reveal(self) -> dict[str, SecretStr]:
        """Everything that is secret here, each version included, still wrapped."""
        return {name: SecretStr(str(value)) for name, value in self.values.get_secret_value().items()}

    def names(self) -> frozenset[str]:
        """The variables that there is a secret for; never a value."""
        return frozenset(name.partition("@")[0] for name in self.values.get_secret_value())

    def versions(self) -> dict[str, tuple[int, ...]]:
        """Of each variable that has versions, those that are here, oldest first."""
        found: dict[str, list[int]] = {}
        for name in self.values.get_secret_value():
            variable, _, number = name.partition("@")
            if number:
                found.setdefault(variable, []).append(int(number))
        return {variable: tuple(sorted(numbers)) for variable, numbers in found.items()}

    def given(self, wanted: Mapping[str, int]) -> dict[str, SecretStr]:
        """Each variable in the version that is wanted, still wrapped. Where none is wanted it is the oldest, which serves while a newer one
        is on its way; a version that is here no longer is retired, and the newest stands for it.
        """
        revealed, versions = self.reveal(), self.versions()
        plain = {name: value for name, value in revealed.items() if "@" not in name}
        chosen = {name: wanted.get(name, there[0]) for name, there in versions.items()}
        return plain | {
            name: revealed[f"{name}@{number if number in versions[name] else versions[name][-1]}"] for name, number in chosen.items()
        }

    @field_validator("values")
    @classmethod
    def _versions_are_numbers(cls, values: SecretDict) -> SecretDict:
        names = list(values.get_secret_value())
        for name in names:
            variable, sign, number = name.partition("@")
            if sign and not _NUMBER.fullmatch(number):
                raise ValueError("got a version that is no number, expected names like DATABASE_URL@2")
            if sign and variable in names:
                raise ValueError(f"got {variable} with and without a version, expected {variable}@1 beside the others")
        return values


class ToolToken(Block):
    """What lets a tool of the checks ask its own service; without it the tool counts as not configured."""

    _block_type_slug = "tool-token"
    _block_type_name = "Tool token"

    variable: str = Field(description="The variable that the tool reads it from, for instance SNYK_TOKEN.", pattern=r"^[A-Z][A-Z0-9_]*$")
    token: SecretStr = Field(description="The token itself.", min_length=SHORTEST_SECRET)

    def reveal(self) -> dict[str, SecretStr]:
        """The variable with its value, still wrapped."""
        return {self.variable: self.token}


def redactor(secrets: Iterable[SecretStr]) -> Redactor:
    """A function that replaces every secret in a text by `***`, in whichever spelling it stands there."""
    return Redactor(secret.get_secret_value() for secret in secrets)


def known(block: Loaded) -> Loaded:
    """The block, whose secrets nothing that this process tells shows from now on. Every source of blocks hands them out through this."""
    know(_secrets_in(block))
    return block


def _secrets_in(value: object) -> Iterator[str]:
    match value:
        case SecretStr():
            yield value.get_secret_value()
        case Secret():
            yield from _texts_in(value.get_secret_value())
        case BaseModel():
            for field in type(value).model_fields:
                yield from _secrets_in(getattr(value, field))


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from map(str, value.values())
    else:
        yield str(value)
