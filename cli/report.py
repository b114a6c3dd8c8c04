"""`greenroom report`: a rollout's report as one HTML file, from the journal alone."""

from pathlib import Path

from blocks.settings import settings
from cli.journal import open_journal
from delivery.errors import DeliveryError
from tasks.report_page import write_page


def write_report(rollout: str, file: Path | None) -> None:
    target = file or Path(f"{rollout}.html")
    with open_journal(settings()) as store:
        record = store.rollout(rollout)
        entries = store.entries(record.id)
    try:
        write_page(target, entries, record)
    except OSError as error:
        raise DeliveryError(f"{target} cannot be written: {error.strerror}.", next="pass a file that you may write.") from error
    print(f"{record.message or f'{record.id} is under way.'}\nIts report: {target}")
