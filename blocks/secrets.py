"""One environment's secrets, and the means to keep them out of whatever people read."""

from collections.abc import Callable, Iterable
from urllib.parse import unquote, urlsplit

from prefect.blocks.core import Block
from prefect.types import SecretDict
from pydantic import Field, SecretStr

HIDDEN = "***"
# Shorter values ("1", "on") are no secrets worth the name, and hiding them would make every log unreadable.
SHORTEST_SECRET = 4


class EnvironmentSecrets(Block):
    """The secret variables of one environment, by name. They are asked for where they are sent, never before."""

    _block_type_slug = "environment-secrets"
    _block_type_name = "Environment secrets"

    values: SecretDict = Field(description="Name of the variable to its secret value, for instance DATABASE_URL.")

    def reveal(self) -> dict[str, SecretStr]:
        """Every secret by its name, still wrapped."""
        return {name: SecretStr(str(value)) for name, value in self.values.get_secret_value().items()}


class ToolToken(Block):
    """What lets a tool of the checks ask its own service; without it the tool counts as not configured."""

    _block_type_slug = "tool-token"
    _block_type_name = "Tool token"

    variable: str = Field(description="The variable that the tool reads it from, for instance SNYK_TOKEN.", pattern=r"^[A-Z][A-Z0-9_]*$")
    token: SecretStr = Field(description="The token itself.", min_length=SHORTEST_SECRET)

    def reveal(self) -> dict[str, SecretStr]:
        """The variable with its value, still wrapped."""
        return {self.variable: self.token}


def redactor(secrets: Iterable[SecretStr]) -> Callable[[str], str]:
    """A function that replaces every secret in a text by `***`; of an address with a password in it, the password alone as well."""
    hidden: set[str] = set()
    for secret in secrets:
        value = secret.get_secret_value()
        hidden |= {value, *_passwords_in(value)}
    # Longest first, so that a secret that contains another one does not leave its rest behind.
    ordered = sorted((value for value in hidden if len(value) >= SHORTEST_SECRET), key=len, reverse=True)

    def redact(text: str) -> str:
        for value in ordered:
            text = text.replace(value, HIDDEN)
        return text

    return redact


def _passwords_in(value: str) -> set[str]:
    try:
        password = urlsplit(value).password
    except ValueError:
        return set()
    return {password, unquote(password)} if password else set()
