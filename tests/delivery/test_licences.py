import pytest

from delivery.licences import Licences, Package, is_allowed, judge
from delivery.scan import NotScanned, Scanned

KNOWN = frozenset({"mit", "apache-2.0", "bsd license"})


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("mit", True),
        ("MIT License", True),
        ("BSD License", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("(MIT OR GPL-3.0-only) AND Apache-2.0", True),
        ("MIT OR Apache-2.0 AND GPL-3.0-only", True),
        ("(MIT OR Apache-2.0) AND GPL-3.0-only", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0 WITH Classpath-exception-2.0", False),
        ("MIT OR", False),
        ("(MIT OR GPL-3.0-only", False),
        ("", False),
    ],
)
def test_of_or_one_side_suffices_and_of_and_both_count(expression: str, *, allowed: bool) -> None:
    assert is_allowed(expression, KNOWN) is allowed


def test_an_unknown_licence_is_a_finding_and_no_package_is_not_clean() -> None:
    scan = judge([Package("good", "1", ("MIT",)), Package("silent", "2"), Package("both", "3", ("MIT", "GPL"))], ["MIT"], tool="t")
    assert isinstance(scan, Scanned)
    assert [(found.rule, found.place) for found in scan.findings] == [("unknown licence", "silent 2"), ("GPL", "both 3")]
    assert judge([], ["MIT"], tool="t") == NotScanned("t saw no installed package")


def test_an_empty_list_of_licences_is_refused() -> None:
    assert Licences(()).problems() == ("licences.allow: got [], expected names of licences",)
    assert Licences(("MIT",)).problems() == ()
