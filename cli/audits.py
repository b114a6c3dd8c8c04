"""`greenroom audit`: what was done, proven by the journal's chains."""

from typing import Annotated

import typer

from cli.options import FAILED, Json

audit = typer.Typer(no_args_is_help=True, help="What was done, proven by the journal's chains.")


@audit.command("verify")
def audit_verify(
    environment: Annotated[str | None, typer.Option("--environment", "-e", help="Only this one.")] = None,
    noted: Annotated[
        str | None, typer.Option(help="A head that was noted earlier, outside of the journal: it must still be there.", metavar="HEAD")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Without the acts.")] = False,
    as_json: Json = False,
) -> None:
    """Verify every chain of the journal and list each act; exit code 1 when an entry was changed. Needs the journal only, no Prefect."""
    from cli.audit import show_audit

    if not show_audit(environment, noted=noted, as_json=as_json, quiet=quiet):
        raise typer.Exit(FAILED)
