from delivery.contraction import CONTRACTING, contractions
from delivery.migration_rules import RULES
from delivery.operations import Lock, Operation, Safety


def an_operation(rule: str, table: str = "rooms") -> Operation:
    return Operation(1, "…", rule, Safety.SAFE, Lock.NONE, table, "", "")


def test_every_contracting_rule_is_a_rule_that_exists() -> None:
    assert RULES.keys() >= CONTRACTING


def test_what_contracts_is_told_once_and_what_expands_is_not() -> None:
    found = [an_operation("add-column"), an_operation("drop-column"), an_operation("drop-column"), an_operation("rights", "")]
    assert contractions(found) == ("drop-column on rooms", "rights on *")
