from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.application import Smoke
from delivery.environment import Capability, Environment, Proving, Traffic
from delivery.errors import InvalidSettings
from delivery.plan import Plan, StepKind, plan_rollout
from delivery.secret_age import KeptSecret
from tests.delivery.samples import ALL, a_plan, a_release, an_environment

BACK = ("restore", "announce-rollback", "collect", "remove")


def names(plan: Plan) -> tuple[str, ...]:
    return plan.step_names


def test_a_normal_rollout_moves_users_step_by_step_and_watches_each() -> None:
    assert names(a_plan()) == (
        *("prepare", "migrate", "launch", "check", "smoke"),
        *("shift-10", "watch-10", "shift-50", "watch-50", "shift-100", "watch-100"),
        *("promote", "announce", "drain"),
    )


def test_the_first_release_of_an_environment_has_nobody_to_be_compared_with_and_nothing_to_drain() -> None:
    assert names(a_plan(blue=None)) == ("prepare", "migrate", "launch", "check", "smoke", "shift-100", "promote", "announce")


def test_a_rollback_neither_migrates_nor_hesitates() -> None:
    going_back = a_plan("1.0.0", blue="1.1.0", kind="rollback", environment=an_environment(load=True))
    assert names(going_back) == ("prepare", "launch", "check", "smoke", "shift-100", "promote", "announce", "drain")


def test_staging_loads_the_release_before_it_is_called_live() -> None:
    plan = a_plan(environment=an_environment("staging", steps=(100,), load=True))
    assert names(plan)[-4:] == ("load", "promote", "announce", "drain")


def inspecting(**changes: object) -> Environment:
    environment = an_environment(**changes)  # type: ignore[arg-type]
    return replace(environment, prove=replace(environment.prove, inspect=True))


def test_what_users_reach_is_inspected_once_green_has_every_user_and_before_it_is_called_live() -> None:
    assert names(a_plan(environment=inspecting()))[-5:] == ("watch-100", "inspect", "promote", "announce", "drain")
    loaded = a_plan(environment=inspecting(name="staging", steps=(100,), load=True))
    assert names(loaded)[-5:] == ("load", "inspect", "promote", "announce", "drain")


def test_going_back_waits_for_no_inspection() -> None:
    assert "inspect" not in names(a_plan("1.0.0", blue="1.1.0", kind="rollback", environment=inspecting()))


def test_what_an_application_does_not_have_is_not_in_its_plan() -> None:
    bare = replace(a_release(), migrations=None, smoke=(), hooks=(), load=None)
    plan = plan_rollout(bare, an_environment(steps=(100,), load=True), capabilities=ALL, blue=None)
    assert names(plan) == ("prepare", "launch", "check", "shift-100", "promote")
    assert tuple(step.name for step in plan.back) == ("restore", "collect", "remove")


def test_what_may_write_makes_no_step_where_users_data_are() -> None:
    writing = replace(a_release(), smoke=(Smoke("api", "/api/listings", method="DELETE"),))
    assert "smoke" not in names(plan_rollout(writing, an_environment(), capabilities=ALL, blue=None))


@pytest.mark.parametrize("kind", ["normal", "hotfix", "rollback"])
@pytest.mark.parametrize("blue", ["1.0.0", None])
def test_the_way_back_is_always_the_same_and_gives_traffic_first(kind: str, blue: str | None) -> None:
    back = tuple(step.name for step in a_plan(blue=blue, kind=kind).back)  # type: ignore[arg-type]
    assert back == (BACK if blue else ("restore", "collect", "remove"))


def test_zero_seconds_of_watching_leave_no_step_behind() -> None:
    quick = replace(an_environment(), traffic=Traffic(steps=(50, 100), watch_seconds=0, bake_seconds=0))
    assert not [step for step in a_plan(environment=quick).forward if step.kind is StepKind.WATCH]


@given(
    inner=st.lists(st.integers(1, 99), unique=True, max_size=6).map(sorted),
    kind=st.sampled_from(["normal", "hotfix", "rollback"]),
    blue=st.sampled_from(["1.0.0", None]),
)
def test_every_plan_gives_users_only_after_checks_and_ends_with_all_of_them(inner: list[int], kind: str, blue: str | None) -> None:
    environment = inspecting(steps=(*inner, 100), load=True)
    assert environment.problems() == ()
    plan = a_plan(blue=blue, kind=kind, environment=environment)  # type: ignore[arg-type]
    kinds = [step.kind for step in plan.forward]
    everything = [step.name for step in (*plan.forward, *plan.back)]
    assert len(set(everything)) == len(everything)
    shares = [step.percent or 0 for step in plan.forward if step.kind is StepKind.SHIFT]
    assert all(lower < higher for lower, higher in pairwise((0, *shares)))
    assert shares[-1] == 100
    first_shift, promotion = kinds.index(StepKind.SHIFT), kinds.index(StepKind.PROMOTE)
    assert kinds.index(StepKind.LAUNCH) < kinds.index(StepKind.CHECK) < kinds.index(StepKind.SMOKE) < first_shift
    assert kinds.count(StepKind.PROMOTE) == 1
    assert (
        max(index for index, step in enumerate(kinds) if step in {StepKind.SHIFT, StepKind.WATCH, StepKind.LOAD, StepKind.INSPECT})
        < promotion
    )
    assert all(step.deadline_seconds > (step.seconds or 0) for step in (*plan.forward, *plan.back))


def test_a_watch_may_stay_blind_for_as_long_as_the_environment_allows() -> None:
    environment = an_environment()
    watch = next(step for step in a_plan(environment=environment).forward if step.name == "watch-10")
    assert watch.seconds == environment.traffic.watch_seconds
    assert watch.deadline_seconds >= environment.traffic.watch_seconds + environment.watch.blind_seconds


def test_the_release_that_is_live_is_not_rolled_out_again() -> None:
    with pytest.raises(InvalidSettings, match=r"Production already runs v1\.1\.0-"):
        a_plan("1.1.0", blue="1.1.0")


def test_the_live_images_under_other_settings_are_a_release_of_their_own_that_migrates_nothing() -> None:
    live = a_release("1.1.0")
    environment = replace(an_environment(), secrets={"URL": KeptSecret(owner="Bea", version=2)})
    plan = plan_rollout(live.with_settings(2), environment, capabilities=ALL, blue=live, kind="config")
    assert (plan.release.id, plan.release.build, plan.release.images) == (f"{live.id}-r2", live.id, live.images)
    assert (plan.release.secrets, plan.blue and plan.blue.secrets) == ({"URL": 2}, {})
    assert {"migrate", "prove"}.isdisjoint(names(plan))
    assert {"check", "shift-10", "watch-10", "promote"} <= {*names(plan)}


def test_a_release_goes_back_with_the_secrets_that_it_had() -> None:
    environment = replace(an_environment(), secrets={"URL": KeptSecret(owner="Bea", version=2)})
    before = a_release("1.0.0").with_secret("URL", 1)
    plan = plan_rollout(before, environment, capabilities=ALL, blue=a_release("1.1.0"), kind="rollback")
    assert plan.release.secrets == {"URL": 1}


def test_steps_that_the_target_cannot_make_are_refused_with_the_alternative() -> None:
    with pytest.raises(InvalidSettings, match="cannot split traffic") as refused:
        plan_rollout(a_release(), an_environment(), capabilities=ALL - {Capability.SPLIT_TRAFFIC}, blue=None)
    assert "traffic.steps = [100]" in refused.value.next


def test_migrations_on_a_target_without_one_off_commands_are_refused() -> None:
    with pytest.raises(InvalidSettings, match="cannot run one-off commands"):
        plan_rollout(a_release(), an_environment(), capabilities=ALL - {Capability.RUN_ONCE}, blue=None)


def test_a_plan_reads_as_a_sentence() -> None:
    assert a_plan().sentence() == "Production from v1.0.0 to v1.1.0 by 10 %, 50 %, 100 %"
    assert a_plan(blue=None).sentence() == "Production to v1.1.0 by 100 %"


def test_migrations_are_proven_on_a_copy_before_they_touch_the_database_where_the_environment_asks_for_it() -> None:
    environment = replace(an_environment(), prove=Proving(clone=True))
    plan = plan_rollout(a_release(), environment, capabilities=ALL, blue=a_release("1.0.0"))
    plan = plan.beside([a_release("1.0.0"), a_release("0.9.0")])
    assert plan.step_names[:3] == ("prepare", "prove", "migrate")
    assert [one.version.tag for one in plan.elsewhere] == ["v0.9.0"]
    first = plan_rollout(a_release(), environment, capabilities=ALL, blue=None)
    back = plan_rollout(a_release("1.0.0"), environment, capabilities=ALL, blue=a_release(), kind="rollback")
    assert ("prove" in first.step_names, "prove" in back.step_names) == (False, False)


def test_a_target_that_cannot_copy_its_database_is_told_when_the_rollout_is_planned() -> None:
    environment = replace(an_environment(), prove=Proving(clone=True))
    with pytest.raises(InvalidSettings, match="its target cannot make one"):
        plan_rollout(a_release(), environment, capabilities=ALL - {Capability.COPY_DATABASE}, blue=a_release("1.0.0"))
