"""Each of the five mechanisms switched off, in the story that is there to notice."""

from collections.abc import Iterable
from dataclasses import replace

from tests.chaos.real.faults import stranger
from tests.chaos.real.kills import killed
from tests.chaos.real.lane import Row, Story
from tests.chaos.real.rivals import beside_the_living, cancelled, frozen

GROUP = "mutation"


def stories() -> list[Story]:
    """They must turn red; with the mechanism on the very same stories are green."""
    # Without its beginning written, the step is not known: its effects are told under the name of the one before.
    unwritten = killed("forward", "smoke/write routing", "after")
    cut_off = cancelled("watch-100/journal Finished", "before")
    return [
        replace(unwritten, name="write-ahead off: killed once users were moved", group=GROUP, without="write-ahead"),
        Story("fencing off: frozen before shift-100, wakes up", GROUP, frozen("shift-100/apply", "before"), without="fencing"),
        Story("read-back off: a broken file of somebody else", GROUP, stranger(9), without="read-back"),
        Story("lease off: a recoverer beside a living walker", GROUP, beside_the_living, without="lease"),
        Story("draining off: cancelled while green has every user", GROUP, cut_off, without="draining"),
    ]


def caught_in(rows: Iterable[Row]) -> list[str]:
    """The mechanisms whose absence was noticed."""
    switched_off = {story.name: story.without for story in stories()}
    found = (switched_off.get(row.scenario) for row in rows if row.violations)
    return [name for name in found if name]
