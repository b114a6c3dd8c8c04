"""What the version that serves is known to send to the database: its smoke statements, read as text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from delivery.schema import Table, conjuncts
from delivery.sql import Cursor, Statement, Token, statements

Answer = Literal["holds", "breaks", "unknown"]

_COMPARISONS = {
    "=": lambda left, right: left == right,
    "<>": lambda left, right: left != right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


@dataclass(frozen=True)
class Write:
    """One row that is written: for an INSERT the columns that are not named get their defaults, for an UPDATE they stay."""

    table: str
    inserts: bool
    values: dict[str, tuple[Token, ...]]
    readable: bool
    sql: str


@dataclass(frozen=True)
class OldVersion:
    """`known` is False when nobody said what the serving version sends."""

    known: bool
    writes: tuple[Write, ...]
    deletes: frozenset[str]

    @classmethod
    def read(cls, sql: Iterable[str] | None) -> "OldVersion":
        read = [statement for text in sql or () for statement in statements(text)]
        return cls(
            known=sql is not None,
            writes=tuple(write for statement in read for write in _writes(statement)),
            deletes=frozenset(_deleted(statement) for statement in read) - {""},
        )

    def obeys(self, table: str, condition: Sequence[Token], columns: Table) -> tuple[Answer, str]:
        """Would each of its writes to `table` pass a CHECK with this condition? With the statement that breaks it or cannot be told."""
        if not self.known:
            return "unknown", ""
        unknown = ""
        for write in self.writes:
            if write.table != table:
                continue
            answers = {_passes(term, write, columns) for term in conjuncts(condition)}
            if "breaks" in answers:
                return "breaks", write.sql
            if "unknown" in answers:
                unknown = write.sql
        return ("unknown", unknown) if unknown else ("holds", "")


def _passes(term: str, write: Write, columns: Table) -> Answer:
    column, _, rest = term.partition(" ")
    known = columns.columns.get(column)
    if not write.readable or (known is None and column not in write.values):
        return "unknown"
    if column not in write.values and not write.inserts:
        return "holds"
    value = _literal(write.values.get(column, known.default if known else ()))
    if rest == "is not null":
        return "unknown" if value is _EXPRESSION else "breaks" if value is None else "holds"
    operator, _, limit_text = rest.partition(" ")
    limit = _number(limit_text)
    if operator not in _COMPARISONS or limit is None or not (value is None or isinstance(value, float)):
        return "unknown"
    # A CHECK that is neither true nor false lets the row in.
    return "holds" if value is None or _COMPARISONS[operator](value, limit) else "breaks"


_EXPRESSION = object()


def _literal(written: Sequence[Token]) -> object:
    """A number, a text, None for NULL (or nothing), `_EXPRESSION` for anything that has to be computed."""
    if not written or [token.value for token in written] == ["null"]:
        return None
    if len(written) == 1 and written[0].kind == "text":
        return written[0].value
    number = _number("".join(token.value for token in written))
    return _EXPRESSION if number is None else number


def _number(text: str) -> float | None:
    try:
        return float(text.replace(" ", ""))
    except ValueError:
        return None


def _writes(statement: Statement) -> list[Write]:
    cursor = Cursor(statement.tokens)
    if cursor.take("insert", "into"):
        return _inserted(statement, cursor)
    if cursor.take("update"):
        cursor.take("only")
        table = cursor.name()
        cursor.up_to("set")
        readable = cursor.take("set")
        values: dict[str, tuple[Token, ...]] = {}
        for part in Cursor(cursor.up_to("where", "from", "returning")).parts():
            column = part.name()
            readable = readable and bool(column) and part.take("=")
            values[column] = part.rest
        return [Write(table, inserts=False, values=values, readable=readable, sql=statement.line)]
    if any(word in ("insert", "update", "merge", "copy", "call", "do") for word in statement.words):
        found = [token.value for token in statement.tokens if token.kind in ("word", "quoted")]
        return [Write(name, inserts=True, values={}, readable=False, sql=statement.line) for name in dict.fromkeys(found)]
    return []


def _inserted(statement: Statement, cursor: Cursor) -> list[Write]:
    table = cursor.name()
    names = [part.name() for part in Cursor(cursor.parentheses()).parts()]
    if not names or not cursor.take("values"):
        return [Write(table, inserts=True, values={}, readable=False, sql=statement.line)]
    found: list[Write] = []
    while cursor.peek() == "(":
        row = [part.rest for part in Cursor(cursor.parentheses()).parts()]
        readable = len(row) == len(names)
        values = {name: value for name, value in zip(names, row, strict=False) if [token.value for token in value] != ["default"]}
        found.append(Write(table, inserts=True, values=values, readable=readable, sql=statement.line))
        cursor.take(",")
    return found


def _deleted(statement: Statement) -> str:
    cursor = Cursor(statement.tokens)
    return cursor.name() if cursor.take("delete", "from") or cursor.take("truncate") else ""
