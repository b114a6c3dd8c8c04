"""What is known of the live schema, read from the DDL that made it (`pg_dump -s`, or a case's set-up)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from delivery.sql import Cursor, Statement, Token, statements

ConstraintKind = Literal["check", "foreign key", "unique", "primary key", "exclude", "not null"]

_END_OF_TYPE = (
    "not", "null", "default", "generated", "primary", "unique", "references", "check", "collate", "constraint", "compression",
    "storage", "using", "deferrable", "initially", ",",
)  # fmt: skip
_ALIASES = {
    "character varying": "varchar", "character": "char", "bpchar": "char", "int": "integer", "int4": "integer", "int8": "bigint",
    "int2": "smallint", "decimal": "numeric", "bool": "boolean", "float8": "double precision", "float4": "real",
    "float": "double precision", "timestamptz": "timestamp with time zone", "timestamp": "timestamp without time zone",
    "timetz": "time with time zone", "time": "time without time zone", "varbit": "bit varying",
}  # fmt: skip
BUILT_IN = frozenset(_ALIASES.values()) | {
    "text", "bigint", "date", "interval", "uuid", "json", "jsonb", "xml", "bytea", "inet", "cidr", "macaddr", "macaddr8", "money", "bit",
    "tsvector", "tsquery", "point", "line", "lseg", "box", "path", "polygon", "circle", "name", "oid", "regclass", "pg_lsn",
    "int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange", "int4multirange", "tstzmultirange",
    # of widely used extensions: base types, so no constraint hides in them
    "citext", "hstore", "ltree", "geometry", "geography", "vector", "halfvec",
}  # fmt: skip
SERIAL = frozenset({"serial", "bigserial", "smallserial", "serial4", "serial8", "serial2"})


@dataclass(frozen=True)
class Type:
    """A column's type: `base` in one spelling, `size` its numbers, for instance ("numeric", (10, 2))."""

    base: str
    size: tuple[int, ...] = ()
    array: bool = False

    def __str__(self) -> str:
        return self.base + (f"({','.join(map(str, self.size))})" if self.size else "") + ("[]" if self.array else "")


@dataclass
class Column:
    type: Type
    not_null: bool = False
    default: tuple[Token, ...] = ()


@dataclass
class Constraint:
    kind: ConstraintKind
    columns: tuple[str, ...] = ()
    condition: tuple[Token, ...] = ()
    valid: bool = True
    cascades: bool = False


@dataclass
class Table:
    columns: dict[str, Column] = field(default_factory=dict)
    constraints: dict[str, Constraint] = field(default_factory=dict)
    partitioned_by: tuple[str, ...] = ()
    has_default_partition: bool = False

    def is_never_null(self, column: str) -> bool:
        """By its own NOT NULL, or by a validated CHECK that PostgreSQL 12 and newer take as proof."""
        known = self.columns.get(column)
        proven = (f"{column} is not null", f"({column} is not null)")
        return bool(known and known.not_null) or any(
            constraint.kind in ("check", "not null")
            and constraint.valid
            and any(term in proven for term in conjuncts(constraint.condition))
            for constraint in self.constraints.values()
        )


@dataclass
class Index:
    table: str
    columns: tuple[str, ...]
    unique: bool


@dataclass
class Schema:
    """`known` is False when nobody said what is there: then nothing may be concluded from what is missing here."""

    known: bool = False
    tables: dict[str, Table] = field(default_factory=dict)
    indexes: dict[str, Index] = field(default_factory=dict)
    views: dict[str, frozenset[str]] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)
    enums: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, ddl: str | None) -> "Schema":
        schema = cls(known=ddl is not None)
        for statement in statements(ddl or ""):
            schema.apply(statement)
        return schema

    def apply(self, statement: Statement) -> None:
        """What the statement makes; what it drops or does not name is left alone, since a dropped object is judged where it is dropped."""
        cursor = Cursor(statement.tokens)
        if cursor.take("create"):
            self._create(cursor)
        elif cursor.take("alter", "table"):
            cursor.take("if", "exists")
            cursor.take("only")
            name = cursor.name()
            for action in cursor.parts():
                self._alter(name, action)

    def _create(self, cursor: Cursor) -> None:
        cursor.take("or", "replace")
        for word in ("global", "local", "temporary", "temp", "unlogged"):
            cursor.take(word)
        unique = cursor.take("unique")
        kind = cursor.peek()
        cursor.skip()
        if kind == "materialized":
            cursor.take("view")
        concurrently = cursor.take("concurrently")
        if_not_exists = cursor.take("if", "not", "exists")
        if kind == "index":
            self._create_index(cursor, unique=unique, named=concurrently or if_not_exists or cursor.peek() != "on")
            return
        name = cursor.name()
        match kind:
            case "table" if name not in self.tables:
                self.tables[name] = self._table(name, cursor)
            case "view" | "materialized":
                self.views[name] = frozenset(token.value for token in cursor.rest if token.kind in ("word", "quoted"))
            case "function":
                bodies = [token.value for token in cursor.rest if token.kind == "text"]
                self.functions[name] = max(bodies, key=len, default="")
            case "type" if any(cursor.peek(number) == "enum" for number in range(3)):
                self.enums.add(name)
            case _:
                pass

    def _create_index(self, cursor: Cursor, *, unique: bool, named: bool) -> None:
        name = cursor.name() if named and cursor.peek() != "on" else ""
        cursor.take("on")
        cursor.take("only")
        table = cursor.name()
        if cursor.take("using"):
            cursor.skip()
        columns = tuple(part.name() for part in Cursor(cursor.parentheses()).parts())
        if name:
            self.indexes[name] = Index(table, columns, unique)

    def _table(self, name: str, cursor: Cursor) -> Table:
        table = Table()
        if cursor.take("partition", "of"):
            parent = self.tables.get(cursor.name())
            if parent is not None and any(token.value == "default" for token in cursor.rest if token.kind == "word"):
                parent.has_default_partition = True
            return table
        for part in Cursor(cursor.parentheses()).parts():
            read_column_or_constraint(table, name, part)
        if cursor.take("partition", "by"):
            cursor.skip()
            table.partitioned_by = tuple(part.name() for part in Cursor(cursor.parentheses()).parts())
        return table

    def _alter(self, name: str, action: Cursor) -> None:
        table = self.tables.setdefault(name, Table())
        if action.take("add"):
            action.take("column")
            action.take("if", "not", "exists")
            read_column_or_constraint(table, name, action)
        elif action.take("validate", "constraint"):
            constraint = table.constraints.get(action.name())
            if constraint is not None:
                constraint.valid = True
        elif action.take("drop", "constraint"):
            action.take("if", "exists")
            table.constraints.pop(action.name(), None)
        elif action.take("attach", "partition"):
            if action.name() and action.take("default"):
                table.has_default_partition = True
        elif action.take("alter"):
            action.take("column")
            self._alter_column(table, action)

    def _alter_column(self, table: Table, action: Cursor) -> None:
        column = table.columns.get(action.name())
        if column is None:
            return
        if action.take("type") or action.take("set", "data", "type"):
            column.type = read_type(action)
        elif action.take("set", "not", "null"):
            column.not_null = True
        elif action.take("drop", "not", "null"):
            column.not_null = False
        elif action.take("set", "default"):
            column.default = action.rest
        elif action.take("drop", "default"):
            column.default = ()


def read_type(cursor: Cursor) -> Type:
    """A type's name, size and whether it is an array, up to what follows it in a column's definition."""
    words: list[str] = []
    size: tuple[int, ...] = ()
    array = False
    while cursor and cursor.peek() not in _END_OF_TYPE:
        if cursor.peek() == "(":
            size = tuple(int(token.value) for token in cursor.parentheses() if token.kind == "number" and token.value.isdecimal())
        elif cursor.peek() in ("[", "array"):
            array = True
            cursor.up_to("]") if cursor.peek() == "[" else cursor.skip()
            cursor.take("]")
        elif name := cursor.name():
            words.append(name.removeprefix("pg_catalog."))
        else:
            cursor.skip()
    spelled = " ".join(words)
    return Type(_ALIASES.get(spelled, spelled), size, array)


def read_column_or_constraint(table: Table, name: str, part: Cursor) -> None:
    """One line of CREATE TABLE, or what follows ADD: kept in `table`."""
    constraint_name = part.name() if part.take("constraint") else ""
    if constraint_name or part.peek() in ("check", "foreign", "unique", "primary", "exclude"):
        constraint = read_constraint(part)
        if constraint is not None:
            table.constraints[constraint_name or _usual_name(name, constraint)] = constraint
            _mark_primary_key(table, constraint)
        return
    if part.peek() == "like":
        return
    column_name = part.name()
    table.columns[column_name] = Column(read_type(part))
    while part:
        _read_column_constraint(table, name, column_name, part)


def _read_column_constraint(table: Table, name: str, column_name: str, part: Cursor) -> None:
    column, usual = table.columns[column_name], f"{name}_{column_name}"
    if part.take("not", "null"):
        column.not_null = True
    elif part.take("default"):
        column.default = part.up_to("not", "null", "constraint", "check", "unique", "primary", "references", "collate", "generated")
    elif part.take("primary", "key"):
        column.not_null = True
        table.constraints[f"{name}_pkey"] = Constraint("primary key", (column_name,))
    elif part.take("unique"):
        table.constraints[f"{usual}_key"] = Constraint("unique", (column_name,))
    elif part.take("generated"):
        column.not_null = column.not_null or any(token.value == "identity" for token in part.rest)
    elif part.take("references"):
        table.constraints[f"{usual}_fkey"] = Constraint("foreign key", (column_name,), cascades=_cascades(part.rest))
    elif part.take("check"):
        table.constraints[f"{usual}_check"] = Constraint("check", condition=part.parentheses())
    else:
        part.skip()


def read_constraint(part: Cursor) -> Constraint | None:
    """A table constraint after its name; None for what is not one."""
    valid = [token.value for token in part.rest if token.kind == "word"][-2:] != ["not", "valid"]
    if part.take("check"):
        return Constraint("check", condition=part.parentheses(), valid=valid)
    if part.take("foreign", "key"):
        return Constraint("foreign key", _names(part.parentheses()), valid=valid, cascades=_cascades(part.rest))
    if part.take("not", "null"):
        return Constraint("not null", condition=tuple(part.rest[:1]), valid=valid)
    if part.take("exclude"):
        return Constraint("exclude")
    kind: ConstraintKind | None = "unique" if part.take("unique") else "primary key" if part.take("primary", "key") else None
    return Constraint(kind, _names(part.parentheses())) if kind else None


def conjuncts(condition: Sequence[Token]) -> tuple[str, ...]:
    """The terms of a condition that AND joins at its top, in lower case, each with single spaces."""
    terms: list[str] = []
    cursor = Cursor(condition)
    if cursor.peek() == "(" and len(Cursor(condition).parentheses()) == len(condition) - 2:
        return conjuncts(condition[1:-1])
    while cursor:
        terms.append(" ".join(token.value for token in cursor.up_to("and")))
        cursor.take("and")
    return tuple(terms)


def _names(inside: Sequence[Token]) -> tuple[str, ...]:
    return tuple(part.name() for part in Cursor(inside).parts())


def _cascades(rest: Sequence[Token]) -> bool:
    words = [token.value for token in rest]
    return any(
        words[at : at + 2] in (["on", "delete"], ["on", "update"]) and words[at + 2] not in ("no", "restrict")
        for at in range(len(words) - 2)
    )


def _usual_name(table: str, constraint: Constraint) -> str:
    middle = "_".join(constraint.columns)
    match constraint.kind:
        case "primary key":
            return f"{table}_pkey"
        case "unique":
            return f"{table}_{middle}_key"
        case "foreign key":
            return f"{table}_{middle}_fkey"
        case _:
            return f"{table}_check"


def _mark_primary_key(table: Table, constraint: Constraint) -> None:
    if constraint.kind == "primary key":
        for name in constraint.columns:
            if name in table.columns:
                table.columns[name].not_null = True
