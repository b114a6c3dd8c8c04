"""`greenroom incident`: what users suffer, reported by people and monitors."""

from typing import Annotated

import typer

from cli.options import Environment, Person

incident = typer.Typer(no_args_is_help=True, help="Report what users suffer; it counts in the delivery metrics.")

IncidentNumber = Annotated[int, typer.Argument(help="The incident's number, as `incident open` told it.", metavar="NUMBER", min=1)]


@incident.command("open")
def incident_open(
    environment: Environment,
    what: Annotated[str, typer.Option("--what", "-w", help="What users suffer, in a few words.", prompt=True)],
    noticed: Annotated[str | None, typer.Option(help="When it was noticed; else now.", metavar="TIME")] = None,
    since: Annotated[str | None, typer.Option(help="Since when users have suffered, if that is known.", metavar="TIME")] = None,
    rollout: Annotated[str | None, typer.Option(help="What caused it, for instance production-7.", metavar="ROLLOUT")] = None,
    key: Annotated[str | None, typer.Option(help="A monitor's own name for it: said twice, it is one incident.")] = None,
    person: Person = None,
) -> None:
    """Report a failure in an environment. Rollouts that are turned back and rollbacks report themselves."""
    from cli.incident import open_incident

    open_incident(environment, text=what, noticed=noticed, since=since, rollout=rollout, key=key, person=person)


@incident.command("close")
def incident_close(
    number: IncidentNumber,
    at: Annotated[str | None, typer.Option(help="When users were well again; else now.", metavar="TIME")] = None,
    text: Annotated[str, typer.Option("--how", help="What ended it, in a few words.")] = "",
    person: Person = None,
) -> None:
    """Say when users were well again. Said twice, the newer word counts."""
    from cli.incident import close_incident

    close_incident(number, at=at, text=text, person=person)


@incident.command("attribute")
def incident_attribute(
    number: IncidentNumber,
    rollout: Annotated[str | None, typer.Argument(help="What caused it, for instance production-7.", metavar="[ROLLOUT]")] = None,
    nothing: Annotated[bool, typer.Option("--nothing", help="No rollout caused it.")] = False,
    text: Annotated[str, typer.Option("--why", help="How that is known, in a few words.")] = "",
    person: Person = None,
) -> None:
    """Say which rollout caused an incident, also much later: the metrics of the past follow."""
    from cli.incident import attribute_incident

    attribute_incident(number, rollout, to_nothing=nothing, text=text, person=person)
