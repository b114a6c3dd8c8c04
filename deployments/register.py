"""`python -m deployments.register`: makes a Prefect server know Greenroom. Run it again after any change; it changes what differs.

Block types and the blocks of the local file, the work pool, every deployment of `prefect.yaml`, closed parameter schemas, and what alerts
set off.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml  # type: ignore[import-untyped]  # its stubs are not worth a dependency for one call
from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_API_URL

from blocks.local import BLOCK_TYPES, local_blocks, slug_of
from blocks.settings import settings
from delivery.errors import DeliveryError, InvalidSettings
from deployments.automations import save_automations

HOME = Path(__file__).resolve().parents[1]
FILE = HOME / "prefect.yaml"
POOL = "greenroom"
LAST_LINES = 15


def main() -> int:
    """Registers everything and says what it did. Exit code 2: something was refused, said in one message."""
    try:
        for line in register():
            print(line, flush=True)
    except DeliveryError as refused:
        print(f"{refused.what}\nNext: {refused.next}", file=sys.stderr)
        return 2
    return 0


def register() -> list[str]:
    """The whole registration, as sentences of what was done. Raises `DeliveryError`; may be repeated."""
    blocks = local_blocks(settings())
    if not PREFECT_API_URL.value():
        raise InvalidSettings("No Prefect server is named.", next="set PREFECT_API_URL, for instance http://127.0.0.1:4200/api.")
    try:
        with get_client(sync_client=True) as client:
            client.hello()
            done = [save_blocks(blocks), make_pool(client)]
            done.append(deploy())
            done.append(close_schemas(client))
            done.append(save_automations(client))
    except httpx.HTTPError as broken:
        raise DeliveryError(
            f"The Prefect server at {PREFECT_API_URL.value()} did not answer ({type(broken).__name__}).",
            next="start it, or correct PREFECT_API_URL.",
        ) from None
    return done


def save_blocks(blocks: Mapping[tuple[str, str], Block]) -> str:
    """Registers every type, then saves every block under its name; held blocks come first, so that holders refer to them."""
    for kind in BLOCK_TYPES:
        kind.register_type_and_schema()
    for (_, name), block in blocks.items():
        block.save(name, overwrite=True)
    return f"Blocks: {', '.join(f'{slug}/{name}' for slug, name in blocks) or 'none'} (types: {', '.join(map(slug_of, BLOCK_TYPES))})."


def make_pool(client: SyncPrefectClient) -> str:
    """The work pool whose workers run flows as processes."""
    try:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    except ObjectAlreadyExists:
        return f"Work pool: {POOL} was there."
    return f"Work pool: {POOL} is new."


def deploy() -> str:
    """Every deployment of `prefect.yaml`, by Prefect's own command, so that the file means what Prefect says it means."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(FILE)]
    done = subprocess.run(
        command,
        cwd=HOME,
        env={**os.environ, "PREFECT_CLI_COLORS": "false", "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    missing = [name for name in deployment_names() if f"'{name}' successfully created" not in " ".join(done.stdout.split())]
    if done.returncode or missing:
        tail = "\n".join(f"  {line}" for line in done.stdout.splitlines()[-LAST_LINES:])
        raise DeliveryError(
            f"Prefect did not deploy {', '.join(missing) or 'everything'}:\n{tail}", next="mend what it names and run this again."
        )
    return f"Deployments: {', '.join(deployment_names())}."


def deployment_names() -> list[str]:
    """`flow/deployment` of each deployment in `prefect.yaml`; a flow is named as its function is."""
    document: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return [f"{one['entrypoint'].rpartition('.')[2].replace('_', '-')}/{one['name']}" for one in document["deployments"]]


def close_schemas(client: SyncPrefectClient) -> str:
    """Prefect takes unknown parameter names and lets the run crash; a closed schema makes its API answer 409 instead."""
    for name in deployment_names():
        flow, deployment = name.split("/")
        found = client.request(
            "GET",
            "/deployments/name/{flow_name}/{deployment_name}",
            path_params={"flow_name": flow, "deployment_name": deployment},
        ).json()
        schema = {**found["parameter_openapi_schema"], "additionalProperties": False}
        client.request(
            "PATCH",
            "/deployments/{id}",
            path_params={"id": found["id"]},
            json={"parameter_openapi_schema": schema, "enforce_parameter_schema": True},
        )
    return "Parameter schemas: closed, unknown names are refused."


if __name__ == "__main__":
    sys.exit(main())
