"""`greenroom replay`: a rule of Greenroom over recorded data. Commands import what they need when they run, so that --help is quick."""

from pathlib import Path
from typing import Annotated

import typer

replay = typer.Typer(no_args_is_help=True, help="Run a rule of Greenroom over recorded data and print what it decides.")


@replay.command("triggers")
def replay_triggers(
    file: Annotated[Path, typer.Argument(help="Cases as JSON; - reads standard input.", metavar="FILE", allow_dash=True)],
) -> None:
    """When would each trigger have fired? Prints one JSON line per case: {"id": …, "fires_at": seconds or null}."""
    from cli.replay import print_firings

    print_firings(file)


@replay.command("judge")
def replay_judge(
    file: Annotated[Path, typer.Argument(help="Canaries as JSON lines; - reads standard input.", metavar="FILE", allow_dash=True)],
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Go on after a final verdict, to see what would have followed.")] = False,
) -> None:
    """What would the judge have said at each look? Prints {"verdict": …, "evidence": odds against chance, "reason": text}, a line per look.

    The verdict is CONTINUE, HOLD, PROMOTE, ROLLBACK or INCONCLUSIVE, decided without later looks. After one of the last three the
    canary's remaining looks are not printed, unless --keep-going is given: then PROMOTE and INCONCLUSIVE may still become ROLLBACK,
    which stays.

    A line {"context": {"look_seconds", "looks_planned", "bounds", "base", "alpha", "promotion_enabled", "aa"}} starts a canary. Bounds are
    in seconds, base has blue's shares per bucket before the canary, aa is null or a list of {"n_1", "n_2", "x_1", "x_2"}: looks at two
    halves of blue. Each following line is a look {"look", "seconds", "n_g", "n_b", "x_g", "x_b", "h_g", "h_b", "groups", "gauges"}:
    requests, errors and counts per bucket (not cumulative, the last one +Inf) of green and blue. Memory gauges are shares of the limit,
    or percentages.
    """
    from cli.replay_judge import print_verdicts

    print_verdicts(file, keep_going=keep_going)


@replay.command("migrations")
def replay_migrations(
    file: Annotated[Path, typer.Argument(help="Cases as JSON; - reads standard input.", metavar="FILE", allow_dash=True)],
    database_url: Annotated[
        str | None,
        typer.Option(
            envvar="GREENROOM_REPLAY_DATABASE_URL",
            help="An empty PostgreSQL database: what the text does not tell is tried on copies beside it, Python of the cases included.",
            metavar="URL",
            show_default=False,
        ),
    ] = None,
) -> None:
    """May each migration run under the live version? Prints a JSON line per case: {"id": …, "verdict": "safe|unsafe", "reason": …}."""
    from cli.replay_migrations import print_verdicts

    print_verdicts(file, database_url=database_url)


@replay.command("dora")
def replay_dora(
    file: Annotated[Path, typer.Argument(help="A log of deployments as JSON; - reads standard input.", metavar="FILE", allow_dash=True)],
    service: Annotated[str | None, typer.Option(help="Whose metrics; needed when the log has several services.", metavar="NAME")] = None,
    environment: Annotated[str, typer.Option(help="Where users are.", metavar="NAME")] = "production",
) -> None:
    """How well was this service delivered? Prints one JSON object with DORA's metrics, and how others would have counted them.

    Deployment frequency, change lead time, change fail rate, failed deployment recovery time and rework rate of one service in one
    environment. Hours, minutes and shares from 0 to 1; what is not known is null, never 0; failures that are not over are counted as open.

    The file is one object. "window": {"start", "end_exclusive"}: a deployment counts when it ended in it. "commits": {id: time of commit}.
    "deployments": a list of {"id", "service", "environment", "kind": normal, hotfix, rollback or config, "started_at",
    "traffic_started_at", "completed_at", "outcome": succeeded, rolled_back_after_completion, aborted_in_canary, failed_before_traffic or
    cancelled, "commits": [ids that the release before did not have], "failure": null or {"impact_started_at", "detected_at",
    "restored_at"}} and, where they apply, "rollback_of", "remediates" (ids of deployments) and "planned" (true unless said). "incidents":
    what a tracker knew, a list of {"id", "cause_deployment", "opened_at", "resolved_at"}.

    Times are ISO 8601 with an offset, or null when there was no such time. Give the whole log, not the window's part: a commit counts at
    its first deployment. The key "expected" is not read, wherever it stands.
    """
    from cli.replay_dora import print_metrics

    print_metrics(file, service=service, environment=environment)
