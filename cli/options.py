"""Arguments and options that several commands share, and the exit code of an act that failed."""

from typing import Annotated, Literal

import typer

FAILED = 1

Environment = Annotated[str, typer.Argument(help="The environment's name, for instance production.", metavar="ENVIRONMENT")]
Release = Annotated[str, typer.Argument(help="A release's id or version, for instance v1.4.2.", metavar="RELEASE")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; it stands in the journal.", prompt=True)]
Person = Annotated[str | None, typer.Option("--as", help="Who says so; else git's user.name, else the login name.", metavar="NAME")]
Number = Annotated[int, typer.Argument(help="The request's number, as `greenroom status` shows it.", metavar="NUMBER", min=1)]
Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]
PromotionKind = Annotated[
    Literal["normal", "hotfix", "config"],
    typer.Option(help="A hotfix may be allowed to skip the approval; config changes settings and no code."),
]
Unplanned = Annotated[bool, typer.Option("--unplanned", help="Nobody had planned this work; counts for the delivery metrics.")]
Remediates = Annotated[
    str | None, typer.Option(help="The rollout whose failure this one mends, for instance production-7.", metavar="ROLLOUT")
]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Stay, show each step, and end as the run ends.")]
