"""What stays with a run for machines to read, in `reports/<release>` of the work directory: SARIF files, and JUnit files of test tools."""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from delivery.check import CheckResult
from delivery.gate import Gate
from delivery.sarif import sarif_of
from tasks.reports.jest import as_junit
from tasks.shell import Redaction

log = logging.getLogger("greenroom.kept")

# More than that nobody reads, and the room is the work directory's.
LARGEST_KEPT = 16 * 1024 * 1024


def reports_folder(work_dir: Path, name: str) -> Path:
    """Of one release, or of a commit that is not one yet."""
    return work_dir / "reports" / name


def keep_text(file: Path, folder: Path, *, name: str, redact: Redaction) -> tuple[str, ...]:
    """A file that a tool wrote, without secrets; where it lies now, nothing when there is none or it is too large. The tool's
    own, which may hold some, is gone afterwards.
    """
    try:
        if file.stat().st_size > LARGEST_KEPT:
            log.warning("%s is larger than %d MB and is not kept", name, LARGEST_KEPT // 1024**2)
            return ()
        text = redact(as_junit(file.read_text(encoding="utf-8", errors="replace")))
    except OSError:
        return ()
    finally:
        file.unlink(missing_ok=True)
    return (_written(folder / name, text),)


def keep_again(kept: Sequence[str], folder: Path) -> tuple[str, ...] | None:
    """The files of an answer from the cache, for this run too; None when one of them is gone."""
    copies = []
    for file in map(Path, kept):
        copy = folder / file.name
        try:
            if copy != file:
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
            elif not file.exists():
                return None
        except OSError:
            return None
        copies.append(str(copy))
    return tuple(copies)


def keep_sarif(result: CheckResult, folder: Path, *, gate: Gate, commit: str) -> str:
    """Where the answer lies as SARIF; its findings are without secrets already."""
    text = json.dumps(sarif_of(result, gate, commit=commit), indent=1)
    if len(text) > LARGEST_KEPT:
        log.warning("The SARIF file of %s is larger than %d MB and is not kept", result.name, LARGEST_KEPT // 1024**2)
        return ""
    return _written(folder / f"{result.name}.sarif", text)


def _written(file: Path, text: str) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return str(file)
