"""A rollout's report as one HTML file that needs nothing else: no server, no script, no other file. It is the Markdown report, laid out."""

import os
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt

from delivery.journal import Closed, Ending, Entry
from delivery.record import RolloutRecord
from tasks.report import rollout_markdown

PAGE_FILE = "report.html"

_OWN_IMAGE = re.compile(r"data:image/svg\+xml;base64,[A-Za-z0-9+/=]+")
_COLOURS = {Ending.LIVE: "#2e9e5b", Ending.ROLLED_BACK: "#b7791f", Ending.UNTOUCHED: "#b7791f", Ending.NEEDS_HUMAN: "#c8372d"}
_UNDER_WAY = "#2f6fd0"
# Foreign text (subjects of commits, output of migrations) may hold anything: whatever slipped through is neither loaded nor run.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1f2937; background: #fff; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; line-height: 1.3; border-left: .4rem solid VERDICT; padding-left: .8rem; }
h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; font-size: .9rem; margin: 1rem 0; display: block; overflow-x: auto; }
th, td:first-child { white-space: nowrap; }
th, td { border-bottom: 1px solid #d1d5db; padding: .3rem .7rem; text-align: left; vertical-align: top; }
code, pre { font: .85em/1.45 ui-monospace, monospace; background: #f3f4f6; border-radius: .2rem; overflow-wrap: anywhere; }
pre { padding: .7rem; overflow-x: auto; }
img { max-width: 100%; display: block; }
@media print { body { margin: 0; max-width: none; } }
"""


def rollout_page(entries: Sequence[Entry], record: RolloutRecord, *, beside: Path | None = None) -> str:
    """What `rollout_markdown` tells, as a whole HTML document; its title is the verdict. Logs that lie in the folder `beside` the page
    are linked.
    """
    markdown = rollout_markdown(entries, record)
    if beside is not None:
        markdown = re.sub(rf"^- `{re.escape(str(beside))}/([\w.~-]+)`$", r"- [\1](\1)", markdown, flags=re.MULTILINE)
    title = f"{record.id}: {record.message or 'under way'}"
    head = f"<meta charset='utf-8'><meta http-equiv='Content-Security-Policy' content=\"{_POLICY}\">"
    head += f"<meta name='viewport' content='width=device-width'><title>{escape(title)}</title>"
    head += f"<style>{_STYLE.replace('VERDICT', _colour(entries))}</style>"
    return f"<!doctype html>\n<html lang='en'><head>{head}</head>\n<body>\n{_renderer().render(markdown)}</body></html>\n"


def keep_page(folder: Path, entries: Sequence[Entry], record: RolloutRecord) -> Path:
    """Writes the page among the rollout's other files, replacing an older one at once. Raises `OSError`."""
    return write_page(folder / PAGE_FILE, entries, record)


def write_page(file: Path, entries: Sequence[Entry], record: RolloutRecord) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        new.write_text(rollout_page(entries, record, beside=file.parent), encoding="utf-8")
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)
    return file


def _renderer() -> MarkdownIt:
    """CommonMark with tables. Raw HTML stays text; of `data:` addresses only the images that our charts are."""
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    usual = renderer.validateLink
    renderer.validateLink = lambda url: bool(_OWN_IMAGE.fullmatch(url)) or usual(url)  # type: ignore[method-assign]
    return renderer


def _colour(entries: Sequence[Entry]) -> str:
    closed = next((entry.event for entry in entries if isinstance(entry.event, Closed)), None)
    return _COLOURS[closed.ending] if closed else _UNDER_WAY
