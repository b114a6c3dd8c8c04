"""The types of flow parameters. Prefect turns them into a schema, so its API refuses bad input with a 4xx before a run exists."""

from typing import Annotated, Any, Literal

from pydantic import Field


def _whole(pattern: str, *, max_length: int | None = None) -> Any:
    """A text that matches as a whole. Prefect's server looks with Python's `re`, whose `$` also matches before a last line break; the form
    in the UI looks with JavaScript's. Both understand what is added for them.
    """
    return Field(pattern=f"^{pattern}$", json_schema_extra={"pattern": f"^{pattern}$(?!\\n)"}, max_length=max_length)


CommitId = Annotated[str, _whole(r"[0-9a-f]{40}")]
VersionText = Annotated[str, _whole(r"v?(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})(-[0-9a-z]+([.-][0-9a-z]+)*)?")]
ReleaseId = Annotated[str, _whole(r"v[0-9]+\.[0-9]+\.[0-9]+(-[0-9a-z.-]+)?-[0-9a-f]{8}(-r[1-9][0-9]{0,5})?", max_length=120)]
EnvironmentName = Annotated[str, _whole(r"[a-z][a-z0-9-]{0,30}")]
SecretName = Annotated[str, _whole(r"[A-Za-z_][A-Za-z0-9_]{0,99}")]
Reason = Annotated[str, Field(min_length=1, max_length=500, pattern=r"\S")]
PersonName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"\S")]
Days = Annotated[int, Field(ge=1, le=366)]
Until = Literal["build", "staging", "production"]
PromotionKind = Literal["normal", "hotfix", "config"]
AskNow = Annotated[bool, Field(strict=True)]
RolloutId = Annotated[str, _whole(r"[a-z][a-z0-9-]{0,30}-[1-9][0-9]*")]
LookSeconds = Annotated[int, Field(ge=1, le=60)]
HowManyLooks = Annotated[int, Field(ge=1, le=240)]
