"""`greenroom plan`: a rollout before it happens."""

import json
from collections.abc import Sequence

from blocks.documents import fingerprint, to_document
from cli.house import open_local_house
from cli.journal import release_named
from delivery.environment import Kind
from delivery.plan import Plan, Step, StepKind, plan_rollout
from flows.promote import release_to_bring
from flows.validation import require_values

WORDS = {
    StepKind.PREPARE: "images are pulled by digest, networks exist, there is room",
    StepKind.PROVE: "on a copy of the database, its migrations are tried beside the versions that serve",
    StepKind.BACKUP: "what the migrations would change is kept as it is, if any revision is pending",
    StepKind.MIGRATE: "the schema is brought to this release's revision, in a container of its own",
    StepKind.LAUNCH: "all replicas are up beside the running release, without users",
    StepKind.CHECK: "each replica is well and answers with the version that was shipped",
    StepKind.SMOKE: "each replica answers the application's smoke requests",
    StepKind.LOAD: "a short load test; its figures are kept as the baseline",
    StepKind.INSPECT: "what users reach is looked at from outside: headers, TLS, pages that show too much",
    StepKind.PROMOTE: "it is the live release: from here on only forward",
    StepKind.ANNOUNCE: "the application's own hooks run",
    StepKind.DRAIN: "the release before finishes what it has begun, and stays warm",
    StepKind.RESTORE: "the release before gets every request",
    StepKind.COLLECT: "logs are kept",
    StepKind.REMOVE: "it is stopped; its containers are kept for the post-mortem",
    StepKind.DOWNGRADE: "the schema goes back to where it was, if every condition for that holds",
}


def show_plan(release: str, environment: str, *, kind: Kind, as_json: bool) -> None:
    """Under today's environment file and from what is live now; an approval freezes a plan, this does not."""
    with open_local_house() as house:
        policy = house.environment(environment)
        found = release_to_bring(house, release_named(house.store, release), policy, kind)
        capabilities = house.target(policy).capabilities
        if kind != "rollback":
            require_values(house, policy, found)
        plan = plan_rollout(found, policy, capabilities=capabilities, blue=house.store.live(environment), kind=kind)
    if as_json:
        print(json.dumps({"hash": fingerprint(plan), "plan": to_document(plan)}, ensure_ascii=False))
    else:
        print("\n".join(lines_of(plan)))


def lines_of(plan: Plan) -> Sequence[str]:
    lines = [plan.sentence(), ""]
    for number, step in enumerate(plan.forward, start=1):
        lines.append(f"{number:>3}  {step.name:<12} {_words(step)}")
    lines += ["", "When something is sick before the promotion:"]
    for step in plan.back:
        lines.append(f"     {step.name:<12} {_words(step)}")
    lines += ["", "Turned back by itself when, held over time:" if plan.environment.trigger else "No limit is watched."]
    lines += [f"     {trigger.name} > {trigger.threshold:g} for {trigger.for_seconds:g} s" for trigger in plan.environment.trigger]
    return lines


def _words(step: Step) -> str:
    match step.kind:
        case StepKind.SHIFT:
            return f"{step.percent} % of the requests go to it, confirmed by the traffic layer"
        case StepKind.WATCH:
            return f"it is watched for {step.seconds:g} s"
        case kind:
            return WORDS[kind]
