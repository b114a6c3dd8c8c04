"""What can be asked of `greenroom`. Commands import what they need when they run, so that --help is quick."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.audits import audit
from cli.incidents import incident
from cli.options import FAILED, Environment, Json, Number, Person, PromotionKind, Reason, Release, Remediates, Unplanned, Watch
from cli.replays import replay

app = typer.Typer(
    name="greenroom",
    help="Takes a commit to production only as fast as the evidence allows, and back at once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.add_typer(replay, name="replay")
app.add_typer(incident, name="incident")
app.add_typer(audit, name="audit")


@app.callback()
def with_installation(
    installation: Annotated[
        Path | None,
        typer.Option(
            "--installation",
            envvar="GREENROOM_INSTALLATION",
            help="Folder of a local installation, for instance .greenroom/demo; its settings are used instead of the environment's.",
        ),
    ] = None,
) -> None:
    """Takes a commit to production only as fast as the evidence allows, and back at once."""
    if installation is not None:
        from blocks.installation import read_settings

        os.environ.update(read_settings(installation))


@app.command()
def status(
    environment: Annotated[str | None, typer.Option("--environment", "-e", help="Only this one.")] = None,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay and show each step of what is under way, to its end.")] = False,
) -> None:
    """What is live where, what is under way at which step, what waits for whom. Needs the journal only, no Prefect."""
    from cli.status import show_status

    show_status(environment, as_json=as_json, watch=watch)


@app.command()
def release(
    sha: Annotated[str, typer.Argument(help="The full commit id: 40 hex digits.", metavar="SHA")],
    version: Annotated[str | None, typer.Option(help="The version, for instance 1.4.2; else derived from the last tag.")] = None,
    until: Annotated[Literal["build", "staging", "production"], typer.Option(help="How far it goes by itself.")] = "production",
    kind: PromotionKind = "normal",
    unplanned: Unplanned = False,
    remediates: Remediates = None,
    attempt: Annotated[int, typer.Option(help="Another number starts the same commit anew.", min=1)] = 1,
    watch: Watch = False,
) -> None:
    """Start the pipeline for a commit. Asked twice for the same, Prefect answers with the first run."""
    from cli.release import start_release

    start_release(
        sha,
        version=version,
        until=until,
        kind=kind,
        attempt=attempt,
        watch=watch,
        planned=not unplanned,
        remediates=remediates,
    )


@app.command()
def approve(
    number: Number,
    reason: Annotated[str | None, typer.Option("--reason", "-r", help="Why; it stands in the journal.")] = None,
    person: Person = None,
    watch: Watch = False,
    key: Annotated[
        Path | None, typer.Option(help="Your SSH key, where signatures count; else Git's user.signingkey, else the usual one.")
    ] = None,
    print_only: Annotated[bool, typer.Option("--print", help="Only print the signature, to be pasted into the form.")] = False,
    break_glass: Annotated[
        bool, typer.Option("--break-glass", help="An emergency: alone, past quorum and go/no-go rules. Signed, and everybody is told.")
    ] = False,
) -> None:
    """Let a waiting request go on to its environment; signed with your SSH key where the environment asks for it.

    With --break-glass one person whom the environment file names (approval.break_glass) stands for the quorum and beats soak times and
    freezes. Images that nobody signed, and a plan that is no longer the one that was asked about, are refused all the same.
    """
    from cli.approval import answer_request, print_signature

    if print_only and not break_glass:
        print_signature(number, key=key)
        return
    why = reason if reason is not None else typer.prompt("Reason")
    if print_only:
        print_signature(number, key=key, breaking_glass_for=why)
        return
    answer_request(number, "break-glass" if break_glass else "approve", reason=why, person=person, watch=watch, key=key)


@app.command()
def reject(number: Number, reason: Reason, person: Person = None) -> None:
    """Refuse a waiting request; its environment stays as it is."""
    from cli.approval import answer_request

    answer_request(number, "reject", reason=reason, person=person, watch=False)


@app.command()
def promote(
    release: Release,
    environment: Annotated[str, typer.Argument(help="The environment that gets it.", metavar="ENVIRONMENT")] = "production",
    kind: PromotionKind = "normal",
    unplanned: Unplanned = False,
    remediates: Remediates = None,
    watch: Watch = False,
) -> None:
    """Ask for a published release to go to an environment: opens a new request, also after one was rejected or expired."""
    from cli.release import start_promotion

    start_promotion(release, environment, kind=kind, watch=watch, planned=not unplanned, remediates=remediates)


@app.command()
def rollback(
    environment: Environment,
    reason: Reason,
    version: Annotated[str | None, typer.Option(help="Where to; else what was live before.")] = None,
    via: Annotated[
        Literal["auto", "prefect", "direct"],
        typer.Option(help="direct acts in this process and needs no Prefect; auto does so when its server does not answer."),
    ] = "auto",
    person: Person = None,
) -> None:
    """Bring an environment back to an earlier release, warm if it still is, else by digest with the same care."""
    from cli.rollback import roll_back

    roll_back(environment, version=version, reason=reason, via=via, person=person)


@app.command()
def unhold(environment: Environment, reason: Reason, person: Person = None) -> None:
    """Let releases go to an environment again that came back by itself. Needs the journal only, no Prefect."""
    from cli.unhold import let_go_on

    let_go_on(environment, reason=reason, person=person)


@app.command()
def plan(
    release: Release,
    environment: Environment,
    kind: Annotated[Literal["normal", "hotfix", "config", "rollback"], typer.Option()] = "normal",
    as_json: Json = False,
) -> None:
    """Show what a rollout would do, step by step. Nothing is touched."""
    from cli.plan import show_plan

    show_plan(release, environment, kind=kind, as_json=as_json)


@app.command()
def evidence(
    release: Release,
    environment: Annotated[str, typer.Option("--environment", "-e", help="Whose keys and policy count.")] = "production",
    as_json: Json = False,
) -> None:
    """Show and verify what is signed about a release: provenance, tests, rollouts, approvals. Exit code 1 when the chain is broken."""
    from cli.evidence import show_evidence

    if not show_evidence(release, environment, as_json=as_json):
        raise typer.Exit(FAILED)


@app.command()
def scan(release: Release) -> None:
    """Look through a published release's images again, by digest, and sign what was found. Exit code 1 when it may not be released."""
    from cli.scan import scan as look_again

    print(look_again(release))


@app.command()
def rotate(
    environment: Environment,
    secret: Annotated[str, typer.Argument(help="The secret variable, for instance DATABASE_URL.", metavar="SECRET")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show where it stands.")] = False,
    as_json: Json = False,
) -> None:
    """Renew a secret without anybody noticing: shows how far it has come and what comes next, and asks for its rollout when that is due.

    Two versions are valid at once (SECRET@1 and SECRET@2 in the environment-secrets block) until nobody works with the old one any more.
    Ask as often as you like: each step is read from how things stand.
    """
    from cli.rotation import rotate as look_and_go_on

    look_and_go_on(environment, secret, dry_run=dry_run, as_json=as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Look at everything a rollout leans on, and say what to do about what is missing."""
    from cli.doctor import show_examination

    if not show_examination(as_json=as_json):
        raise typer.Exit(FAILED)


@app.command()
def preflight(
    environment: Annotated[str, typer.Argument(help="Which environment is asked about.", metavar="[ENVIRONMENT]")] = "production",
    as_json: Json = False,
) -> None:
    """Go through the checklist before a first release: a verdict per item, with what it rests on or what to do. Touches nothing.

    Exit code 1 when an item fails; what cannot be told is shown and fails nothing.
    """
    from cli.preflight import show_checklist

    if not show_checklist(environment, as_json=as_json):
        raise typer.Exit(FAILED)


@app.command()
def health(
    environment: Annotated[str | None, typer.Argument(help="Only this one.", metavar="[ENVIRONMENT]")] = None,
    seconds: Annotated[int, typer.Option(help="How long to count requests.", min=1, max=60)] = 10,
    as_json: Json = False,
) -> None:
    """How environments fare now: requests, errors, response times, database pool, Redis, queue. Needs no Prefect.

    Exit code 1 when something is over its limit, or nobody knows whether it is.
    """
    from cli.health import show_health

    if not show_health(environment, seconds=seconds, as_json=as_json):
        raise typer.Exit(FAILED)


@app.command()
def secrets(
    environment: Annotated[str | None, typer.Argument(help="Only this one's.", metavar="[ENVIRONMENT]")] = None,
    as_json: Json = False,
) -> None:
    """How old each secret is: version, day, age, who renews it, and what follows. Never a secret. Needs no Prefect.

    Exit code 1 when one is overdue.
    """
    from cli.secrets import show_ages

    if not show_ages(environment, as_json=as_json):
        raise typer.Exit(FAILED)


@app.command()
def housekeeping(
    delete: Annotated[bool, typer.Option("--delete", help="Delete what goes; else it is only shown.")] = False,
    as_json: Json = False,
) -> None:
    """What nobody needs any longer, and why the rest stays: images in the registry, old files of this machine, old remains.

    The newest releases stay (GREENROOM_KEEP_RELEASES, 10), and everything that is live, previous, a way back, asked for or under way, with
    what describes it; so does every image that nobody here published. Files and remains stay for GREENROOM_KEEP_DAYS (30).
    """
    from cli.housekeeping import tidy

    if not tidy(act=delete, as_json=as_json):
        raise typer.Exit(FAILED)


@app.command()
def steward(
    once: Annotated[bool, typer.Option("--once", help="One round, then the end; exit code 1 when something could not be done.")] = False,
) -> None:
    """Stay beside the worker and bring to an end what others had to leave; needs the journal and the blocks file, no Prefect.

    Every two seconds it takes over rollouts whose process died or was cancelled: back to the release before, or forward once
    promoted. It also retires releases that are no longer kept warm, closes requests that nobody answered and sends notices that
    wait. Several may run; each environment is acted on by one alone. Run it as a service: one per machine that has the blocks.
    SIGTERM ends it after the act that is under way, and whoever looks next goes on.
    """
    from cli.steward import look_after_everything

    if not look_after_everything(once=once):
        raise typer.Exit(FAILED)


@app.command()
def report(
    rollout: Annotated[str, typer.Argument(help="Which one, for instance production-7.", metavar="ROLLOUT")],
    file: Annotated[Path | None, typer.Argument(help="The file; else ROLLOUT.html in this folder.", metavar="[FILE]")] = None,
) -> None:
    """Write a rollout's report as one HTML file to keep or to send: timeline, plots, migrations, what was released. Needs no Prefect."""
    from cli.report import write_report

    write_report(rollout, file)


@app.command()
def metrics(
    environment: Annotated[str | None, typer.Option("--environment", "-e", help="Only this one.")] = None,
    days: Annotated[int, typer.Option(help="How many UTC days back to look, today included.", min=1, max=366)] = 28,
    as_json: Json = False,
    textfile: Annotated[
        Path | None, typer.Option(help="Write them to this file too, for Prometheus' textfile collector.", metavar="FILE.prom")
    ] = None,
) -> None:
    """How often, how quickly and how safely releases reach their users (DORA). Needs the journal only, no Prefect."""
    from cli.metrics import show_metrics

    show_metrics(environment, days=days, as_json=as_json, textfile=textfile)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def demo(context: typer.Context) -> None:
    """The whole thing on this machine: two good releases, and a bad one that comes back by itself."""
    import subprocess

    raise typer.Exit(subprocess.run([sys.executable, "-m", "deployments.demo", *context.args], check=False).returncode)
