"""Deaths while a promotion goes through a real Prefect server and a worker, on a whole local installation."""

from tests.chaos.through_prefect.installation import scenarios

__all__ = ["scenarios"]
