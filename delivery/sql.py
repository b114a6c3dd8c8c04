"""SQL as PostgreSQL splits it: tokens and statements, no grammar. Reads anything and never raises."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["word", "quoted", "text", "number", "parameter", "symbol"]

_TOKEN = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*)
    | (?P<comment>/\*)
    | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*(?:'|\\?\Z))
    | (?P<text>(?:[nNbBxX]|[uU]&)?'(?:[^']|'')*(?:'|\Z))
    | (?P<quoted>(?:[uU]&)?"(?:[^"]|"")*(?:"|\Z))
    | (?P<dollar>\$(?:[^\W\d]\w*)?\$)
    | (?P<parameter>\$\d+)
    | (?P<number>\d[\w.]*|\.\d\w*)
    | (?P<word>[^\W\d][\w$]*)
    | (?P<symbol>::|<=|>=|<>|!=|:=|=>|\|\||.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


@dataclass(frozen=True)
class Token:
    """`text` as written; `value` as PostgreSQL takes it: words in lower case, names and texts without their quotes.

    `gap` is what stands before it, comments left out: nothing, a space or, since it joins texts, a line's end.
    """

    kind: Kind
    text: str
    value: str
    gap: str = ""


@dataclass(frozen=True)
class Statement:
    """One statement without its semicolon and without comments; never empty."""

    tokens: tuple[Token, ...]

    @property
    def sql(self) -> str:
        """As written but without comments, by which a linter could be told to look away, and with gaps of one space or line's end."""
        return as_written(self.tokens)

    @property
    def line(self) -> str:
        """For people: on one line."""
        return " ".join(self.sql.split())

    @property
    def words(self) -> tuple[str, ...]:
        """Unquoted words and symbols in lower case; names in quotes as written; texts left out."""
        return tuple(token.value for token in self.tokens if token.kind != "text")


def tokens(sql: str) -> Iterator[Token]:
    """Comments and spaces are left out; what is not closed reaches to the end."""
    at = 0
    gap = ""
    while at < len(sql):
        found = _TOKEN.match(sql, at)
        if found is None:  # unreachable: the last branch takes any character
            return
        at = found.end()
        text = found.group()
        match found.lastgroup:
            case "space":
                gap = "\n" if "\n" in text or gap == "\n" else " "
                continue
            case "comment":
                at = _end_of_comment(sql, at)
                gap = gap or " "
                continue
            case "dollar":
                close = sql.find(text, at)
                body_end, at = (len(sql), len(sql)) if close < 0 else (close, close + len(text))
                yield Token("text", sql[found.start() : at], sql[found.end() : body_end], gap)
            case "escaped" | "text":
                yield Token("text", text, _unquoted(text, "'"), gap)
            case "quoted":
                yield Token("quoted", text, _unquoted(text, '"'), gap)
            case "word" | "number" | "parameter" as kind:
                yield Token(kind, text, text.lower(), gap)
            case _:
                yield Token("symbol", text, text, gap)
        gap = ""


def _unquoted(text: str, quote: str) -> str:
    return text[text.index(quote) + 1 :].removesuffix(quote).replace(2 * quote, quote)


def statements(sql: str) -> tuple[Statement, ...]:
    """Split at semicolons that stand outside texts, comments, parentheses and bodies that begin with BEGIN ATOMIC."""
    found: list[Statement] = []
    current: list[Token] = []
    depth = body = 0
    for token in tokens(sql):
        if token.kind == "symbol":
            depth = max(0, depth + (token.value == "(") - (token.value == ")"))
        elif token.kind == "word":
            body += _step_into_body(token.value, current, body)
        if token.kind == "symbol" and token.value == ";" and not depth and not body:
            if current:
                found.append(Statement(tuple(current)))
            current = []
        else:
            current.append(token)
    if current:
        found.append(Statement(tuple(current)))
    return tuple(found)


def _step_into_body(word: str, before: Sequence[Token], body: int) -> int:
    previous = before[-1].value if before else ""
    if word == "atomic" and previous == "begin" and not body and before[0].value == "create":
        return 1
    if body and word == "case":
        return 1
    return -1 if body and word == "end" else 0


def _end_of_comment(sql: str, at: int) -> int:
    """PostgreSQL's comments nest."""
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(sql, at)
        if edge is None:
            return len(sql)
        depth += 1 if edge.group() == "/*" else -1
        at = edge.end()
    return at


def as_written(parts: Sequence[Token]) -> str:
    """The text of tokens that followed one another."""
    return "".join((token.gap if number else "") + token.text for number, token in enumerate(parts))


class Cursor:
    """A reading position in a list of tokens. Every method is total: at the end there is nothing to take."""

    def __init__(self, parts: Sequence[Token]) -> None:
        self._parts = tuple(parts)
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._parts)

    @property
    def rest(self) -> tuple[Token, ...]:
        return self._parts[self._at :]

    def peek(self, ahead: int = 0) -> str:
        """The value of a coming word, number or symbol; empty at the end and for texts and quoted names, which are no keywords."""
        at = self._at + ahead
        return self._parts[at].value if at < len(self._parts) and self._parts[at].kind not in ("text", "quoted") else ""

    def take(self, *words: str) -> bool:
        """Moves on and says so when exactly these words come next."""
        if all(self.peek(number) == word for number, word in enumerate(words)):
            self._at += len(words)
            return True
        return False

    def skip(self) -> Token | None:
        token = self._parts[self._at] if self else None
        self._at += 1 if token else 0
        return token

    def name(self) -> str:
        """A name, qualified or not, without `public.`; empty when none comes."""
        parts: list[str] = []
        while self and self._parts[self._at].kind in ("word", "quoted"):
            parts.append(self._parts[self._at].value)
            self._at += 1
            if not self.take("."):
                break
        return ".".join(parts[1:] if len(parts) > 1 and parts[0] == "public" else parts)

    def parentheses(self) -> tuple[Token, ...]:
        """What stands in the parentheses that open here, without them; nothing when none opens."""
        if not self.take("("):
            return ()
        depth, start = 1, self._at
        while self and depth:
            depth += (self.peek() == "(") - (self.peek() == ")")
            self._at += 1
        return self._parts[start : self._at - (0 if depth else 1)]

    def up_to(self, *words: str) -> tuple[Token, ...]:
        """What comes before the first of these words that stands outside parentheses, or everything."""
        depth, start = 0, self._at
        while self and (depth or self.peek() not in words):
            depth += (self.peek() in ("(", "[")) - (self.peek() in (")", "]"))
            self._at += 1
        return self._parts[start : self._at]

    def parts(self) -> list["Cursor"]:
        """The rest, split at commas outside parentheses."""
        found: list[Cursor] = []
        while self:
            found.append(Cursor(self.up_to(",")))
            self.take(",")
        return found
