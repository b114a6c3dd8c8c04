"""The types of flow parameters. Prefect turns them into a schema, so its API refuses bad input with a 4xx before a run exists."""

from typing import Annotated, Literal

from pydantic import Field

CommitId = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
VersionText = Annotated[str, Field(pattern=r"^v?(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(-[0-9a-z]+([.-][0-9a-z]+)*)?$")]
ReleaseId = Annotated[str, Field(pattern=r"^v\d+\.\d+\.\d+(-[0-9a-z.-]+)?-[0-9a-f]{8}$", max_length=120)]
EnvironmentName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
Reason = Annotated[str, Field(min_length=1, max_length=500)]
PersonName = Annotated[str, Field(min_length=1, max_length=100)]
Days = Annotated[int, Field(ge=1, le=366)]
Until = Literal["build", "staging", "production"]
PromotionKind = Literal["normal", "hotfix", "config"]
AskNow = Annotated[bool, Field(strict=True)]
RolloutId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}-[1-9]\d*$")]
LookSeconds = Annotated[int, Field(ge=1, le=60)]
HowManyLooks = Annotated[int, Field(ge=1, le=240)]
