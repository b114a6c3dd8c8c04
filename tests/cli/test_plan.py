from cli.plan import WORDS, lines_of
from delivery.environment import Capability
from delivery.plan import StepKind, plan_rollout
from tests.samples import a_release, an_environment


def plan_of(*, kind: str = "normal"):
    return plan_rollout(
        a_release("1.1.0"),
        an_environment(),
        capabilities=frozenset(Capability),
        blue=a_release("1.0.0"),
        kind=kind,  # type: ignore[arg-type]
    )


def test_a_plan_is_shown_step_by_step_in_its_order_with_the_way_back():
    lines = lines_of(plan_of())
    assert lines[0] == "Production from v1.0.0 to v1.1.0 by 10 %, 50 %, 100 %"
    names = [line.split()[1] for line in lines if line[:3].strip().isdigit()]
    assert names == [step.name for step in plan_of().forward]
    back = lines[lines.index("When something is sick before the promotion:") + 1 :]
    assert [line.split()[0] for line in back[:4]] == ["restore", "announce-rollback", "collect", "remove"]
    assert "     error_rate > 0.05 for 45 s" in lines


def test_every_kind_of_step_has_words():
    assert set(StepKind) - set(WORDS) == {StepKind.SHIFT, StepKind.WATCH}


def test_a_rollback_shows_neither_migration_nor_watch():
    shown = "\n".join(lines_of(plan_of(kind="rollback")))
    assert "migrate" not in shown
    assert "watch" not in shown
