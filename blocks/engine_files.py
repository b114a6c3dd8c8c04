"""A container's files as an engine gives them out: one tar stream, read once from its beginning to its end."""

import contextlib
import io
import tarfile
from collections.abc import Callable, Iterator

from delivery.errors import DeliveryError

# What is bigger is told of and not read.
LARGEST_FILE = 64 * 1024 * 1024
# Two empty blocks, as every tar ends.
_END = 1024


def files_in(pieces: Iterator[bytes], wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes | None]]:
    """Each file that is wanted by its path (without the first slash), with its content; None for one that is too large, or that is only
    another name of a file that was not wanted. Links are left out: what they lead to has a place of its own. Raises `DeliveryError` for a
    stream that breaks off.
    """
    stream = _Stream(pieces)
    try:
        with contextlib.closing(io.BufferedReader(stream)) as buffered, tarfile.open(fileobj=buffered, mode="r|") as archive:
            for member in archive:
                path = member.name.removeprefix("./").lstrip("/")
                if member.islnk() and wanted(path) and not wanted(member.linkname.removeprefix("./").lstrip("/")):
                    yield path, None
                elif member.isreg() and wanted(path):
                    content = archive.extractfile(member) if member.size <= LARGEST_FILE else None
                    yield path, content.read() if content is not None else None
            stream.to_its_end()
    except tarfile.TarError:
        raise DeliveryError("The files of a container could not be read to their end.", next="try again.") from None


class _Stream(io.RawIOBase):
    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._left, self._tail = pieces, memoryview(b""), b""

    def readable(self) -> bool:
        return True

    def readinto(self, into: memoryview) -> int:  # type: ignore[override]  # whatever takes bytes; a memoryview is what comes
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left, self._tail = memoryview(piece), (self._tail + piece)[-_END:]
        size = min(len(into), len(self._left))
        into[:size] = self._left[:size]
        self._left = self._left[size:]
        return size

    def to_its_end(self) -> None:
        """An archive that merely stops between two files is not one that has ended, which tarfile does not tell."""
        for piece in self._pieces:
            self._tail = (self._tail + piece)[-_END:]
        if len(self._tail) < _END or self._tail.strip(b"\0"):
            raise tarfile.ReadError("it has no end")
