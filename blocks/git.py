"""What reads the application's repository."""

from prefect.blocks.core import Block
from pydantic import Field, SecretStr


class GitCredential(Block):
    """A read credential for an https Git address; one that may write is more than Greenroom needs."""

    _block_type_slug = "git-credential"
    _block_type_name = "Git credential"

    username: str = Field(default="x-access-token", description="GitHub takes any name beside a token; GitLab wants the token's own.")
    token: SecretStr = Field(description="A token that may read the repository.")

    def reveal(self) -> SecretStr:
        """`username:token`, still wrapped, as `tasks.source.checkout` takes it."""
        return SecretStr(f"{self.username}:{self.token.get_secret_value()}")
