"""`make demo`: the main job on this machine, told as a story. `python -m deployments.demo --help` says what can be chosen."""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

from docker.errors import DockerException
from rich.console import Console

from delivery.errors import DeliveryError
from deployments.demo.installation import HOME, LocalInstallation

ENVIRONMENT_FILES = Path(__file__).parent / "environments"


def main() -> int:
    options = _options()
    console = Console(highlight=False)
    try:
        return _down(options.folder, console) if options.down else _show(options, console)
    except DeliveryError as broken:
        console.print(f"[bold red]{broken.what}[/]\n[bold]Next:[/] {broken.next}", markup=True)
        return 1
    except DockerException as broken:
        console.print(f"[bold red]The Docker engine did not do it:[/] {str(broken)[:300]}", markup=True)
        console.print("[bold]Next:[/] look at its log and at `docker info`, start it anew, and run this again.", markup=True)
        return 1
    except KeyboardInterrupt:
        console.print("\nStopped. What was started goes on; `make demo-down` ends and removes it.")
        return 130


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deployments.demo",
        description="Takes the example from a commit to production three times: 1.0.0, 1.1.0, and 1.2.0, which is brought back.",
    )
    unattended = bool(os.environ.get("CI"))
    parser.add_argument(
        "--unattended", action="store_true", default=unattended, help="approve through the REST API and clean up at the end (set by CI=1)"
    )
    parser.add_argument("--keep", action="store_true", help="with --unattended: leave everything running at the end")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="keep how the report of 1.2.0 looks in a browser")
    parser.add_argument("--down", action="store_true", help="end and remove what an earlier demo left")
    parser.add_argument(
        "--folder", type=Path, default=HOME / ".greenroom" / "demo", help="where the demo keeps its data (default: %(default)s)"
    )
    options = parser.parse_args()
    if not options.unattended and not options.down and not sys.stdin.isatty():
        parser.error("nobody can approve here: run it in a terminal, or with --unattended (CI=1)")
    return options


def _show(options: argparse.Namespace, console: Console) -> int:
    # Late, since the --help of a demo should not wait for SQLAlchemy and Prefect.
    from blocks.journal import SqlJournal  # noqa: PLC0415
    from deployments.base_images import ensure_base_images  # noqa: PLC0415
    from deployments.demo.repository import ApplicationRepository  # noqa: PLC0415
    from deployments.demo.story import Story  # noqa: PLC0415
    from deployments.machine import ensure_engine  # noqa: PLC0415

    ensure_engine()
    _remove_earlier(options.folder)
    console.rule("[bold]Setting the stage", align="left")
    console.print("  base images, registry, Traefik, PostgreSQL and Redis twice, Prefect with a worker, the steward")
    ensure_base_images()
    repository = ApplicationRepository.create(options.folder / "dealbrain")
    installation = _installation(options.folder)
    # What the demo itself reads (the journal's settings, the API) must be this installation's as well.
    os.environ.update(installation.settings)
    finished = False
    journal = SqlJournal(installation.database_url)
    try:
        installation.start()
        journal.migrate()
        console.print(f"  Prefect UI: [bold]{installation.prefect.url}[/]   production: [bold]{installation.public_url('production')}[/]")
        story = Story(installation, repository, journal, console, unattended=options.unattended, picture=options.picture)
        outcome = story.tell()
        finished = True
    finally:
        journal.close()
        if options.unattended and not options.keep:
            if not finished:
                _save_logs(options.folder, console)
            installation.stop(remove=True)
    _conclude(outcome.problems, console)
    if not options.unattended or options.keep:
        _where_to_look(installation, console)
    print(json.dumps(outcome.document()))
    return 1 if outcome.problems else 0


def _installation(folder: Path) -> LocalInstallation:
    return LocalInstallation(
        folder=folder, repository=folder / "dealbrain", environments=ENVIRONMENT_FILES, cache=_cache_folder(), durable=True
    )


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "greenroom"


def _remove_earlier(folder: Path) -> None:
    if folder.exists():
        _installation(folder).stop(remove=True)


def _down(folder: Path, console: Console) -> int:
    if not folder.exists():
        console.print("There is no demo to end.")
        return 0
    _remove_earlier(folder)
    console.print("The demo's processes, containers and data are gone; base images and caches are kept.")
    return 0


def _save_logs(folder: Path, console: Console) -> None:
    """Of a demo that broke: the logs outlive the clean-up."""
    kept = folder.with_name(f"{folder.name}-logs")
    shutil.rmtree(kept, ignore_errors=True)
    for log in folder.rglob("*.log"):
        goal = kept / log.relative_to(folder)
        goal.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, goal)
    console.print(f"  logs are kept in {kept}")


def _conclude(problems: tuple[str, ...], console: Console) -> None:
    console.rule(align="left")
    if not problems:
        console.print("[bold green]Everything held:[/] 1.0.0 and 1.1.0 went live, 1.2.0 was brought back, no request was lost.")
    for problem in problems:
        console.print(f"[bold red]Did not hold:[/] {problem}")


def _where_to_look(installation: LocalInstallation, console: Console) -> None:
    console.print(
        f"\nWhere to look:\n"
        f"  the application     {installation.public_url('production')}   (staging: {installation.public_url('staging')})\n"
        f"  runs and artifacts  {installation.prefect.url}/runs   {installation.prefect.url}/artifacts\n"
        f"  what happened       .venv/bin/greenroom --installation {installation.folder} status\n"
        f"  end it              make demo-down\n"
    )


if __name__ == "__main__":
    sys.exit(main())
