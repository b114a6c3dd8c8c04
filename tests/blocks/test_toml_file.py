"""The line of each key, which tomllib does not keep."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from blocks.toml_text import key_lines


def test_lines_are_found_around_everything_that_spans_lines() -> None:
    text = '''\
# a comment = [
a = 1
"b c" = "[not a list" # ]
d.e.'f g' = """
x = 1
[table]
\\""" still inside
"""
h = [ # [
  [1, 2], { y = "]" },
  \'\'\'
z = 2
\'\'\',
]
i = { j = 1, k = [
  2 ] }

[ t . "u" ]
v = 1
[[w]]
x = 1
[w.y]
z = 1
[[w]]
x = 2
[[w.n]]
o = 1
[[w.n]]
o = 2
'''
    assert tomllib.loads(text)["w"][1]["n"][1]["o"] == 2
    assert dict(key_lines(text)) == {
        ("a",): 2,
        ("b c",): 3,
        ("d", "e", "f g"): 4,
        ("h",): 9,
        ("i",): 15,
        ("t", "u"): 18,
        ("t", "u", "v"): 19,
        ("w", 0): 20,
        ("w", 0, "x"): 21,
        ("w", 0, "y"): 22,
        ("w", 0, "y", "z"): 23,
        ("w", 1): 24,
        ("w", 1, "x"): 25,
        ("w", 1, "n", 0): 26,
        ("w", 1, "n", 0, "o"): 27,
        ("w", 1, "n", 1): 28,
        ("w", 1, "n", 1, "o"): 29,
    }


def test_keys_are_spelled_as_toml_spells_them() -> None:
    assert dict(key_lines("\"\\U00000041\" = 1\n# \u2028 [no table]\n'a\\b' = 2\n")) == {("A",): 1, ("a\\b",): 3}


@given(st.text(alphabet="ab=[]{}\"'#.\\\n 1,", max_size=60))
def test_every_line_that_is_found_leads_to_a_value(text: str) -> None:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    for place, line in key_lines(text):
        value: object = data
        for part in place:
            value = value[part]  # type: ignore[index]
        assert 1 <= line <= text.count("\n") + 1
