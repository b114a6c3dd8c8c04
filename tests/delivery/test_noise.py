import pytest

from delivery.noise import Halves, Noise, chi_squared_quantile, measured_noise

ALIKE = [Halves(1000, 1000, 10, 10)] * 60


def test_halves_that_are_alike_have_no_clumps():
    assert measured_noise(ALIKE) == Noise()


def test_no_errors_tell_nothing():
    assert measured_noise([]) == measured_noise([Halves(1000, 1000, 0, 0)] * 60) == Noise()


def test_a_half_that_answered_nothing_tells_nothing():
    assert measured_noise([*ALIKE, Halves(0, 1000, 0, 500)]) == Noise()


def test_errors_that_come_ten_at_a_time_give_a_clump_factor_of_more_than_ten():
    clumped = [Halves(1000, 1000, 10, 0), Halves(1000, 1000, 0, 10)] * 30
    assert measured_noise(clumped) == Noise(clump=12.5)


def test_an_unequal_split_is_not_noise():
    assert measured_noise([Halves(3000, 1000, 30, 10)] * 60).clump == 1


def test_many_errors_that_split_evenly_prove_that_there_is_little_noise():
    found = measured_noise([Halves(10**6, 10**6, 5000 + swing, 5000 - swing) for swing in (40, -40)] * 30)
    assert found.clump == 1
    assert found.ratio == pytest.approx(0.05)


def test_few_looks_prove_nothing_about_the_noise_of_the_ratio():
    assert measured_noise([Halves(10**6, 10**6, 5000, 5000)] * 59).ratio is None


@pytest.mark.parametrize(("freedom", "at_95", "at_10"), [(10, 18.31, 4.87), (60, 79.08, 46.46), (100, 124.34, 82.36)])
def test_chi_squared_points_agree_with_the_tables(freedom: int, at_95: float, at_10: float):
    assert chi_squared_quantile(0.95, freedom) == pytest.approx(at_95, rel=0.003)
    assert chi_squared_quantile(0.10, freedom) == pytest.approx(at_10, rel=0.003)
