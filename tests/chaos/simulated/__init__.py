"""Thousands of seeded fault schedules a minute, in virtual time, over the code that production runs."""

from tests.chaos.simulated.harness import Summary, caught, run
from tests.chaos.simulated.mutations import MUTATIONS, mutated

__all__ = ["MUTATIONS", "Summary", "caught", "mutated", "run"]
