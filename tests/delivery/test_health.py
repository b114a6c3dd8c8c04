import pytest

from delivery.environment import WatchSettings
from delivery.health import LONGEST_LINE, says_any
from tests.samples import an_environment


@pytest.mark.timeout(20)
def test_a_pattern_that_backtracks_for_ever_elsewhere_costs_nothing_here() -> None:
    """As an expression, `(a+)+$` would try more ways than there is time for."""
    line = "a" * LONGEST_LINE + "!"
    assert not any(says_any(line, ["(a+)+$", "(a|aa)+$", ".*.*.*=.*"]) for _ in range(100))


def test_patterns_are_plain_texts() -> None:
    assert says_any("it matched (a+)+$ by itself", ["(a+)+$"])
    assert not says_any("FATAL", [".ATAL", "F.*"])
    assert says_any("it said FATAL: out of memory", ["panic:", "FATAL"])


def test_of_a_line_without_end_only_the_beginning_is_looked_at() -> None:
    beginning = "." * (LONGEST_LINE - 5)
    assert says_any(f"{beginning}FATAL", ["FATAL"])
    assert not says_any(f"{beginning}.FATAL", ["FATAL"])


def test_a_pattern_that_every_line_contains_is_refused() -> None:
    [problem] = an_environment(watch=WatchSettings(log_patterns=("FATAL", ""))).problems()
    assert problem.startswith("watch.log_patterns: got an empty text")
