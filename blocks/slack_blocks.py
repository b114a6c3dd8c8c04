"""A notice as Slack's blocks, within Slack's limits, and so that nothing in it becomes a mention or a link of its own.

Sources: https://api.slack.com/reference/surfaces/formatting#escaping, https://api.slack.com/reference/block-kit/blocks
"""

from typing import Any

LONGEST_SECTION = 3000
MOST_SECTIONS = 10
LONGEST_LINK = 2000
CUT = " […]"


def escaped(text: str) -> str:
    """The text with Slack's three control characters disarmed: nothing in it mentions a channel, a person or a foreign link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def words_of(text: str, link: str | None, *, mention: str = "") -> str:
    """What telephones show, and those who cannot see blocks."""
    pieces = _pieces(text, first=mention)
    return pieces[0] + (CUT if len(pieces) > 1 else "") + _linked(link)


def blocks_of(text: str, link: str | None, *, mention: str = "") -> list[dict[str, Any]]:
    """`mention` is Slack's own word for whom to call, and the only one that is not disarmed."""
    pieces = _pieces(text, first=mention)
    if len(pieces) > MOST_SECTIONS:
        pieces = [*pieces[: MOST_SECTIONS - 1], pieces[MOST_SECTIONS - 1] + CUT]
    return [_section(piece) for piece in pieces] + ([_section(_linked(link).strip())] if _linked(link) else [])


def _section(words: str) -> dict[str, Any]:
    # verbatim: an address or a channel's name in the text stays text.
    return {"type": "section", "text": {"type": "mrkdwn", "text": words, "verbatim": True}}


def _pieces(text: str, *, first: str) -> list[str]:
    """Cut between characters, so that no escape is torn."""
    pieces = [f"{first} " if first else ""]
    for character in text or " ":
        one = escaped(character)
        if len(pieces[-1]) + len(one) > LONGEST_SECTION - len(CUT):
            pieces.append("")
        pieces[-1] += one
    return pieces


def _linked(link: str | None) -> str:
    if link is None or not link.startswith(("https://", "http://")) or len(link) > LONGEST_LINK:
        return ""
    return f"\n<{escaped(link).replace('|', '%7C')}|Open>"
