import pytest

from delivery.audit import heads, missing_among, require_head
from delivery.errors import InvalidSettings


def test_a_head_covers_every_rollout_before_it() -> None:
    before, changed = heads("production", ["a", "b", "c"]), heads("production", ["x", "b", "c"])
    assert [head.partition(":")[0] for head in before] == ["production-1", "production-2", "production-3"]
    assert not {*before} & {*changed}
    assert heads("production", ["a", "b", "c", "d"])[:3] == before
    assert not {*before} & {*heads("staging", ["a", "b", "c"])}


def test_a_gap_is_missed_and_the_end_is_not() -> None:
    assert missing_among("production", [4, 1]) == ["production-2", "production-3"]
    assert missing_among("production", []) == []


def test_a_head_that_the_journal_does_not_have_is_refused() -> None:
    known = heads("production", ["a", "b"])
    require_head(known[0], known)
    with pytest.raises(InvalidSettings, match="was noted, and the journal does not have it"):
        require_head("production-1:" + "0" * 64, known)
