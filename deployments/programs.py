"""Programs of this machine, and whether what they serve on loopback answers."""

import os
import shutil
import sysconfig

import httpx

from delivery.errors import DeliveryError
from deployments.machine import SYSTEM_PATH


def program(name: str) -> str:
    """The program in this installation's own folder (wheels bring some), else on the PATH; DeliveryError when missing."""
    own = sysconfig.get_path("scripts")
    found = shutil.which(name, path=os.pathsep.join((own, SYSTEM_PATH)))
    if found is None:
        raise DeliveryError(f"The program {name} is not installed.", next="run `make setup`")
    return found


def loopback_client() -> httpx.Client:
    # Without the machine's proxy settings: loopback is never reached through one.
    return httpx.Client(timeout=3, trust_env=False)


def answers(url: str) -> bool:
    """Does a GET give 200?"""
    try:
        with loopback_client() as client:
            return client.get(url).status_code == 200
    except httpx.HTTPError:
        return False
