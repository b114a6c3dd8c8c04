import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery.sql import Cursor, statements, tokens

CASES: list[tuple[str, str, list[str]]] = [
    ("nothing", "", []),
    ("semicolons alone", ";; ;\n;", []),
    ("the last statement needs no semicolon", "SELECT 1; SELECT 2", ["SELECT 1", "SELECT 2"]),
    ("a semicolon in a text", "SELECT 'a;b'; SELECT 2", ["SELECT 'a;b'", "SELECT 2"]),
    ("a doubled quote does not end a text", "SELECT 'it''s;'", ["SELECT 'it''s;'"]),
    ("a backslash ends nothing in an ordinary text", r"SELECT '\'; SELECT 2", [r"SELECT '\'", "SELECT 2"]),
    ("a backslash keeps a quote in an escaped text", r"SELECT E'\';'; SELECT 2", [r"SELECT E'\';'", "SELECT 2"]),
    ("a semicolon in a quoted name", 'SELECT 1 AS "a;b"', ['SELECT 1 AS "a;b"']),
    ("a semicolon in a dollar-quoted body", "DO $$ a; b; $$; SELECT 2", ["DO $$ a; b; $$", "SELECT 2"]),
    ("tags tell bodies apart", "DO $a$ $$; $b$ $a$; SELECT 2", ["DO $a$ $$; $b$ $a$", "SELECT 2"]),
    ("a parameter is no dollar quote", "SELECT $1; SELECT $2", ["SELECT $1", "SELECT $2"]),
    ("a dollar inside a name is no dollar quote", "SELECT a$b; SELECT c$b", ["SELECT a$b", "SELECT c$b"]),
    ("a comment to the line's end", "SELECT 1 -- ; DROP TABLE a\n; SELECT 2", ["SELECT 1", "SELECT 2"]),
    ("comments nest", "SELECT /* a; /* b; */ c; */ 1; SELECT 2", ["SELECT 1", "SELECT 2"]),
    ("quotes in a comment open nothing", "SELECT 1 -- it's\n; SELECT 2", ["SELECT 1", "SELECT 2"]),
    ("a comment opens nothing in a text", "SELECT '/*'; SELECT '--'", ["SELECT '/*'", "SELECT '--'"]),
    ("operators stay whole", "SELECT a->>'b', c@>d, e||f", ["SELECT a->>'b', c@>d, e||f"]),
    ("texts that a line's end joins stay joined", "SELECT 'a'\n   'b'", ["SELECT 'a'\n'b'"]),
    (
        "rules hold several statements in parentheses",
        "CREATE RULE r AS ON INSERT TO t DO (A; B); SELECT 2",
        ["CREATE RULE r AS ON INSERT TO t DO (A; B)", "SELECT 2"],
    ),
    (
        "a body that begins with BEGIN ATOMIC",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN a THEN 1 END; END; SELECT 2",
        ["CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN a THEN 1 END; END", "SELECT 2"],
    ),
    ("what is not closed reaches to the end", "SELECT 1; SELECT 'a; SELECT 2", ["SELECT 1", "SELECT 'a; SELECT 2"]),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_statements_are_split_as_postgresql_splits_them(sql: str, expected: list[str]) -> None:
    assert [statement.sql for statement in statements(sql)] == expected


# Pieces that matter to a tokenizer come up often, whole and torn.
PIECES = "' '' $$ $a$ $1 -- /* */ ; ( ) E' \\ begin atomic end case . 1. ü"
pieces = st.sampled_from([*PIECES.split(" "), "\n", "\0"])
anything = st.lists(pieces | st.text(max_size=4), max_size=40).map("".join)


@settings(deadline=None)
@given(anything)
def test_any_text_is_read_and_read_again_to_the_same(text: str) -> None:
    read = statements(text)
    for statement in read:
        assert statement.tokens
        (again,) = statements(statement.sql)
        assert [token.value for token in again.tokens] == [token.value for token in statement.tokens]


@settings(deadline=None)
@given(anything)
def test_reading_positions_never_go_past_the_end(text: str) -> None:
    cursor = Cursor(tuple(tokens(text)))
    for act in itertools.islice(itertools.cycle([cursor.name, cursor.parentheses, cursor.skip, lambda: cursor.up_to(",")]), 200):
        act()
    assert cursor.peek(3) == ""


plain = st.sampled_from(["SELECT 1", "UPDATE t SET a = 'x;y'", "DO $b$ a; $b$", 'SELECT "q;"', "SELECT E'\\';'", "SELECT (1)"])
comment = st.sampled_from(["", " ", "\n", "-- it's; \n", "/* ; /* $$ */ ' */", "/* -- */"])


@settings(deadline=None)
@given(parts=st.lists(plain, max_size=6), gaps=st.lists(comment, min_size=14, max_size=14))
def test_comments_between_statements_change_neither_their_number_nor_their_text(parts: list[str], gaps: list[str]) -> None:
    dressed = "".join(f"{gaps[2 * number]}{part}{gaps[2 * number + 1]};" for number, part in enumerate(parts)) + gaps[-1]
    assert [statement.sql for statement in statements(dressed)] == parts


@settings(deadline=None)
@given(body=st.text(alphabet="ab;'\"-/*$ \n", max_size=20).filter(lambda text: "$tag$" not in text), parts=st.lists(plain, max_size=3))
def test_whatever_stands_in_a_dollar_quote_is_one_text(body: str, parts: list[str]) -> None:
    read = statements(";".join([*parts, f"DO $tag${body}$tag$"]))
    assert len(read) == len(parts) + 1
    assert read[-1].tokens[-1].value == body
