"""What was printed during a rollout, in its folder: bounded, so that no flood fills the disk, and without secrets."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from delivery.errors import DeliveryError, StaleFence
from delivery.journal import Evidence
from delivery.kept_text import two_ends
from delivery.redaction import redacted
from tasks.scene import Scene

log = logging.getLogger("greenroom.rollout")

LARGEST_FILE = 4 * 1024 * 1024  # bytes of one container's log, half of them from its beginning
LARGEST_IN_ALL = 24 * 1024 * 1024  # bytes of all that one rollout collects


def collect(scene: Scene) -> Evidence:
    """Green's logs for the post-mortem, and those of blue, which was brought back. Without them the way back goes on all the same."""
    plan, files, remarks = scene.plan, list[Path](), list[str]()
    for release in (plan.release, *([plan.blue] if plan.blue else [])):
        try:
            scene.folder.mkdir(parents=True, exist_ok=True)
            files += scene.target.collect_logs(release, scene.folder)
        except StaleFence:
            raise
        except (DeliveryError, OSError) as broken:
            what = broken.what if isinstance(broken, DeliveryError) else type(broken).__name__
            remarks.append(f"the logs of {release.version.tag} could not be kept: {what}")
    try:
        shorten(files)
    except OSError as broken:
        remarks.append(f"the logs could not be shortened: {type(broken).__name__}")
    told = [f"{len(files)} log files are kept"] if files or not remarks else []
    return Evidence(well=True, summary="; ".join([*told, *remarks]), facts={"logs": [str(file) for file in files]})


def shorten(files: Sequence[Path], *, each: int = LARGEST_FILE, in_all: int = LARGEST_IN_ALL) -> None:
    """Cuts what is too large to its beginning and its end, and says in it how much was left out. Raises `OSError`."""
    limit = min(each, in_all // max(1, len(files)))
    for file in files:
        if file.stat().st_size > limit:
            file.write_bytes(two_ends(file.read_bytes(), limit))


def keep_output(lines: Iterable[str], file: Path) -> dict[str, object]:
    """A command's output beside the rollout's other files, and where it lies, as facts of its step. Not being able to keep it stops
    nothing.
    """
    text = redacted("".join(f"{line}\n" for line in lines)).encode()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as kept:
            kept.write(two_ends(text, LARGEST_FILE))
    except OSError as broken:
        log.warning("%s could not be kept: %s", file.name, type(broken).__name__)
        return {}
    return {"log": str(file)}
