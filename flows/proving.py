"""What may run in an environment, asked where it is about to: the one place that knows policy, keys, journal and registry together."""

from dataclasses import replace
from datetime import datetime

from blocks.registry import OciRegistry
from delivery.application import Application
from delivery.dsse import NotProven
from delivery.environment import Environment
from delivery.errors import InvalidSettings
from delivery.plan import Plan
from delivery.ports import Registry
from delivery.provenance import Build, ProvenancePolicy
from delivery.release import Release
from delivery.source import Source
from flows.assembly import House
from flows.telling import this_run
from tasks.prove import require_proven
from tasks.sign import base_materials, sign_provenance


def require_proven_release(house: House, plan: Plan) -> None:
    """Raises `NotProven`, in one sentence, when the plan's environment does not trust where its release comes from."""
    environment = plan.environment
    policy = policy_of(house, environment)
    try:
        require_proven(plan.release, policy, store=house.store, keys=house.keys(), registry=registry_of(house) if policy.required else None)
    except NotProven as not_proven:
        raise NotProven(f"{environment.title} does not take {plan.release.id}. {not_proven.what}", next=not_proven.next) from None


def policy_of(house: House, environment: Environment) -> ProvenancePolicy:
    """The environment's policy; what it leaves empty is this installation's own repository and builder."""
    policy, installation = environment.provenance, house.settings
    return replace(policy, repository=policy.repository or installation.repository, builder=policy.builder or installation.builder)


def require_signer(house: House, environment: Environment) -> None:
    """Raises `InvalidSettings` when releases are not signed here and the environment takes signed ones only."""
    if environment.provenance.required and house.signer() is None:
        raise InvalidSettings(
            f"{environment.title} takes signed releases only, and there is no block signing-key/default here.",
            next="make a key: `python -m deployments.keys` (docs/operating.md, Signed releases).",
        )


def sign_release(house: House, release: Release, source: Source, application: Application, *, started: datetime) -> tuple[bytes, ...]:
    """Signs the provenance of every image of a release that was just published; nothing where there is no key."""
    signer, installation = house.signer(), house.settings
    if signer is None:
        return ()
    run = this_run()
    build = Build(
        builder=installation.builder,
        invocation=f"urn:uuid:{run}" if run else f"urn:greenroom:direct:{release.id}",
        started=started,
        finished=house.store.now(),
        main_branch=installation.main_branch,
        bases=base_materials(application.bases, installation.base_images),
    )
    return sign_provenance(release, source, build, signer, house.registry())


def registry_of(house: House) -> Registry | None:
    """None where there is no registry block: then only what the journal keeps can prove anything."""
    found: OciRegistry | None = house.blocks.find("oci-registry", house.settings.registry)
    return found
