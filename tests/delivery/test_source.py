from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.errors import InvalidSettings
from delivery.source import Semver, Sha


@pytest.mark.parametrize("text", ["main", "", "HEAD", "a" * 39, "a" * 41, "A" * 40, "g" * 40, "a" * 40 + "\n", " " + "a" * 39])
def test_only_a_full_lower_case_commit_id_is_a_commit(text: str) -> None:
    with pytest.raises(InvalidSettings, match="expected 40 lower-case hex digits"):
        Sha(text)


def test_a_commit_is_shown_whole_and_named_short() -> None:
    sha = Sha("3f2a1bc9" * 5)
    assert (str(sha), sha.short) == ("3f2a1bc9" * 5, "3f2a1bc9")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.4.2", Semver(1, 4, 2)),
        ("v1.4.2", Semver(1, 4, 2)),
        ("0.0.0", Semver(0, 0, 0)),
        ("10.20.30-rc.1", Semver(10, 20, 30, "rc.1")),
        ("1.0.1-main.12", Semver(1, 0, 1, "main.12")),
    ],
)
def test_a_version_is_read_with_or_without_v(text: str, version: Semver) -> None:
    assert Semver.parse(text) == version


@pytest.mark.parametrize(
    "text",
    ["1.4", "1", "", "1.4.2.1", "01.4.2", "1.04.2", "v", "V1.4.2", "1.4.2+build", "1.4.2-", "1.4.2-a..b", "1.4.2\n", " 1.4.2", "latest"],
)
def test_what_is_no_version_is_refused_and_shown(text: str) -> None:
    with pytest.raises(InvalidSettings, match="Not a version: got"):
        Semver.parse(text)


parts = st.integers(0, 10**6)


@given(parts, parts, parts, st.sampled_from(["", "rc.1", "main.7"]))
def test_a_version_survives_being_written(major: int, minor: int, patch: int, pre: str) -> None:
    version = Semver(major, minor, patch, pre)
    assert Semver.parse(str(version)) == Semver.parse(version.tag) == version


@given(st.lists(st.tuples(parts, parts, parts), min_size=1))
def test_released_versions_are_ordered_by_their_numbers(numbers: list[tuple[int, int, int]]) -> None:
    assert [(v.major, v.minor, v.patch) for v in sorted(Semver(*three) for three in numbers)] == sorted(numbers)


# The example of semver.org 2.0.0, section 11, with what this project writes itself.
RISING = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0"]


@pytest.mark.parametrize(("lower", "higher"), [*pairwise(RISING), ("1.0.1-main.9", "1.0.1-main.10")])
def test_versions_are_ordered_as_semver_says(lower: str, higher: str) -> None:
    assert Semver.parse(lower) < Semver.parse(higher)
    assert not Semver.parse(higher) < Semver.parse(lower)


@pytest.mark.parametrize(("commits", "text"), [(0, "1.4.2"), (1, "1.4.3-main.1"), (12, "1.4.3-main.12")])
def test_a_commit_after_a_tag_is_the_next_patch_not_yet_released(commits: int, text: str) -> None:
    assert str(Semver(1, 4, 2).after(commits=commits)) == text
