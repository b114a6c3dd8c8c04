"""Which copies of databases a rehearsal may take away: its own environment's, and old ones; never one that somebody else may be using."""

from blocks.docker_copies import OLDEST_LEFT_BEHIND, left_behind

NOW = 1_800_000_000.0
JUST_NOW, LONG_AGO = int(NOW) - 60, int(NOW - OLDEST_LEFT_BEHIND.total_seconds()) - 60


def test_a_fresh_copy_of_an_environment_with_a_longer_name_stays() -> None:
    own, others = f"greenroom_clone_{JUST_NOW}_0a1b2c_staging", f"greenroom_clone_{JUST_NOW}_0a1b2c_eu_staging"
    assert left_behind([own, others], "staging", now=NOW) == (own,)
    assert left_behind([own, others], "eu_staging", now=NOW) == (others,)


def test_an_old_copy_goes_whosever_it_is() -> None:
    old = f"greenroom_clone_{LONG_AGO}_0a1b2c_eu_staging"
    assert left_behind([f" {old}", "greenroom_clone_of_mine", "listings", ""], "staging", now=NOW) == (old,)
