import pytest

from delivery.errors import InvalidSettings
from tasks.trivy_database import MOST_ENTRIES, bolt_file

PAGE = 4096


def test_a_bucket_that_spans_pages_says_how_many() -> None:
    file = bolt_file({"long": {f"{number:05}": b"x" * 100 for number in range(500)}})
    pages = len(file) // PAGE - 4
    assert pages > 10
    assert len(file) % PAGE == 0
    assert int.from_bytes(file[4 * PAGE + 12 : 4 * PAGE + 16], "little") == pages - 1


def test_more_entries_than_a_page_can_count_are_refused() -> None:
    with pytest.raises(InvalidSettings, match="65535 entries of one kind, 65534 at most"):
        bolt_file({"long": dict.fromkeys(map(str, range(MOST_ENTRIES + 1)), b"")})
