"""Markdown in small pieces, for reports that people read in Prefect and as a page."""

from collections.abc import Iterable, Sequence

_SHOWN = 300


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def one_line(text: str) -> str:
    """Foreign text on one line, without what Markdown would take for HTML, for a link or for an image from elsewhere."""
    flat = " ".join(text.split()).replace("<", "&lt;").replace("](", "]\\(")
    return flat if len(flat) <= _SHOWN else flat[: _SHOWN - 1] + "…"


def length(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"
