"""The two ends of a text that may be without end: how it began and how it ended tell most, and what lies between is named and let go."""

from collections import deque
from dataclasses import dataclass, field


@dataclass
class TwoEnds:
    """Keeps `limit` bytes of what it is given, half of them from the beginning. `take` returns what belongs to the beginning, to be
    written at once; `ending` is what is left to write when no more comes. Never holds more than half of `limit` and one piece.
    """

    limit: int
    _begun: int = 0
    _tail: deque[bytes] = field(default_factory=deque)
    _held: int = 0
    _cut: int = 0

    def take(self, piece: bytes) -> bytes:
        half = self.limit // 2
        head = piece[: max(0, half - self._begun)]
        self._begun += len(head)
        if rest := piece[len(head) :]:
            self._tail.append(rest)
            self._held += len(rest)
            while self._held > half:
                too_many, oldest = self._held - half, self._tail.popleft()
                if len(oldest) > too_many:
                    self._tail.appendleft(oldest[too_many:])
                gone = min(len(oldest), too_many)
                self._held, self._cut = self._held - gone, self._cut + gone
        return head

    def ending(self) -> bytes:
        """With the cut named, in bytes, where there is one."""
        named = f"\n[... {self._cut:,} bytes were left out here ...]\n".encode() if self._cut else b""
        return named + b"".join(self._tail)


def two_ends(text: bytes, limit: int) -> bytes:
    """A whole text, cut to its two ends."""
    ends = TwoEnds(limit)
    return ends.take(text) + ends.ending()
