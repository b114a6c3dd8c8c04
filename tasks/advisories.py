"""The team's advisories, made ready for the scanner, and proven to be read by it before anything is called clean."""

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

from delivery.advisories import NPM, OLDEST, PYPI, Advisory, Feed, feed_of
from delivery.errors import DeliveryError, InvalidSettings
from delivery.scan import NotScanned, Scanned
from tasks.reports import read_report
from tasks.shell import run_tool
from tasks.trivy_database import write_database

log = logging.getLogger("greenroom.advisories")

FLAGS = ("--skip-db-update", "--skip-java-db-update", "--skip-check-update", "--skip-version-check", "--offline-scan")
LONGEST_PROOF = timedelta(minutes=2)
# No such package is published; the scanner must find it in a lock file of ours.
PLANTED = "greenroom-planted"
_PROOF = tuple(Advisory(f"PLANTED-{ecosystem}", ecosystem, PLANTED, (">=0, <2",), ("2",), "CRITICAL") for ecosystem in (PYPI, NPM))


@dataclass(frozen=True)
class Advisories:
    """Advisories of the day `as_of` in `folder`, as Trivy reads them. `key` stands for all that they hold."""

    folder: Path
    key: str
    as_of: date


def ready_advisories(
    file: Path | None, *, work_dir: Path, environment: Mapping[str, str], today: date, identity: str
) -> Advisories | NotScanned:
    """The advisories of `file` for the scanner whose `identity` this is, made once per content; `NotScanned` when there are none, when they
    are too old, or when the scanner does not find in them what was planted. Raises `InvalidSettings` for a file that is no feed.
    """
    if file is None:
        return NotScanned("no advisories were imported (GREENROOM_ADVISORIES)")
    try:
        text = file.read_bytes()
    except OSError as away:
        return NotScanned(f"the advisories' file cannot be read ({type(away).__name__})")
    try:
        feed = feed_of(json.loads(text))
    except ValueError:
        raise InvalidSettings(f"{file} is not JSON.", next="correct the advisories' file.") from None
    if why := feed.stale(today):
        return NotScanned(why)
    key = hashlib.sha256(text + identity.encode()).hexdigest()[:20]
    folder = work_dir / "advisories" / key
    if not folder.exists():
        made = _made(feed, folder, environment)
        if made is not None:
            return made
    return Advisories(folder, key, feed.as_of)


def _made(feed: Feed, folder: Path, environment: Mapping[str, str]) -> NotScanned | None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix="draft-", dir=folder.parent))
    try:
        write_database(replace(feed, advisories=(*feed.advisories, *_PROOF)), draft)
        if why := _not_found(draft, environment):
            return NotScanned(why)
        if not folder.exists():
            draft.rename(folder)
    except OSError:
        if not folder.exists():  # somebody else was quicker with the same
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    _forget_old(folder)
    log.info("%d advisories of %s are ready", len(feed.advisories), feed.as_of)
    return None


def _forget_old(newest: Path) -> None:
    """Those made before the newest could be relied on for its whole time have gone stale, and no scan lasts that long."""
    for other in newest.parent.iterdir():
        if other != newest and newest.stat().st_mtime - other.stat().st_mtime > 2 * OLDEST.total_seconds():
            shutil.rmtree(other, ignore_errors=True)


def _not_found(database: Path, environment: Mapping[str, str]) -> str:
    """Why the scanner does not see what was planted; "" when it does. Another schema would make every scan look clean."""
    with tempfile.TemporaryDirectory(prefix="greenroom-planted-") as name:
        project = Path(name)
        project.joinpath("requirements.txt").write_text(f"{PLANTED}==1.0\n", encoding="utf-8")
        lock = {"name": "a", "lockfileVersion": 3, "packages": {"": {"name": "a"}, f"node_modules/{PLANTED}": {"version": "1.0.0"}}}
        project.joinpath("package-lock.json").write_text(json.dumps(lock), encoding="utf-8")
        report = database / "proof.json"
        command = ["trivy", "fs", "--quiet", "--cache-dir", str(database), *FLAGS, "--scanners", "vuln"]
        try:
            tool = run_tool(
                [*command, "--format", "json", "--output", str(report), "."],
                directory=project,
                environment=environment,
                timeout=LONGEST_PROOF,
                log_file=database / "proof.log",
                label="trivy",
            )
            scan = read_report("trivy", report.read_text(encoding="utf-8"), tool.tail)
        except (DeliveryError, OSError) as broken:
            return f"trivy could not be tried on the advisories ({type(broken).__name__})"
    found = {finding.rule for finding in scan.findings} if isinstance(scan, Scanned) else set()
    missed = [planted.id for planted in _PROOF if planted.id not in found]
    return f"trivy does not find what was planted in the advisories ({', '.join(missed)})" if missed else ""
