"""A container's files out of one tar stream."""

import io
import tarfile
from collections.abc import Iterator

import pytest

from blocks import engine_files
from blocks.engine_files import files_in
from delivery.errors import DeliveryError


def archive(*members: tuple[str, bytes, str]) -> bytes:
    """Of files, and of links, which have a place that they lead to."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content, link in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if link:
                info.type, info.linkname = (tarfile.SYMTYPE if link.startswith("->") else tarfile.LNKTYPE), link.removeprefix("->")
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def pieces(whole: bytes, size: int = 700) -> Iterator[bytes]:
    return (whole[at : at + size] for at in range(0, len(whole), size))


WHOLE = archive(
    ("srv/a.py", b"a" * 3000, ""),
    ("./srv/b.py", b"", ""),
    ("usr/lib/c.py", b"c", ""),
    ("srv/soft.py", b"", "->/srv/a.py"),
    ("srv/hard.py", b"", "srv/a.py"),
    ("srv/foreign.py", b"", "usr/lib/c.py"),
)


def test_what_is_wanted_comes_with_its_content_and_another_name_of_something_unwanted_is_told_of() -> None:
    found = dict(files_in(pieces(WHOLE), lambda path: path.startswith("srv/")))
    assert found == {"srv/a.py": b"a" * 3000, "srv/b.py": b"", "srv/foreign.py": None}


def test_what_is_too_large_is_told_of_and_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_files, "LARGEST_FILE", 2999)
    assert dict(files_in(pieces(WHOLE), lambda path: path == "srv/a.py")) == {"srv/a.py": None}


@pytest.mark.parametrize("end", [600, 3500, len(WHOLE) // 2])
def test_a_stream_that_breaks_off_is_no_answer(end: int) -> None:
    with pytest.raises(DeliveryError, match="could not be read to their end"):
        list(files_in(pieces(WHOLE[:end]), lambda _: True))
