"""Simulated canaries as arrays, drawn exactly as the published protocol says: each cell is reproducible alone by its name."""

from dataclasses import dataclass, replace
from math import erf, log, sqrt
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]

LOOKS = 60
LOOK_SECONDS = 60.0
MEDIAN_SECONDS, SIGMA = 0.1, 0.6
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def generator(cell: str) -> np.random.Generator:
    return np.random.default_rng([20251120, crc32(cell.encode())])


def shares(scale: Numbers | float) -> Numbers:
    """The shares per bucket of a log-normal latency whose median is stretched by `scale`; one more axis than `scale`."""
    logs = np.array([log(bound / MEDIAN_SECONDS) for bound in BOUNDS])
    steps = (logs - np.log(np.asarray(scale, dtype=float))[..., None]) / (SIGMA * sqrt(2))
    below = 0.5 * (1 + np.vectorize(erf, otypes=[float])(steps))
    ends = np.zeros((*below.shape[:-1], 1))
    found = np.diff(np.concatenate([ends, below, ends + 1], axis=-1), axis=-1)
    return np.asarray(found / found.sum(axis=-1, keepdims=True))


BASE = tuple(shares(1.0).tolist())


@dataclass(frozen=True)
class Canaries:
    """Counts with the shape (canaries, looks), histograms with one axis more for the buckets."""

    n_g: Numbers
    n_b: Numbers
    x_g: Numbers
    x_b: Numbers
    h_g: Numbers
    h_b: Numbers


@dataclass(frozen=True)
class World:
    """Rates and scales that broadcast to (canaries, looks)."""

    p_g: Numbers | float
    p_b: Numbers | float
    scale_g: Numbers | float = 1.0
    scale_b: Numbers | float = 1.0
    load: Numbers | float = 1.0
    tail_g: float = 0.0


def draw(rng: np.random.Generator, world: World, *, rps: float, weight: float, canaries: int, looks: int = LOOKS) -> Canaries:
    """In this order: green requests, blue requests, green errors, blue errors, green histograms, blue histograms."""
    shape = (canaries, looks)
    rate = np.broadcast_to(LOOK_SECONDS * rps * np.asarray(world.load, dtype=float), shape)
    n_g, n_b = rng.poisson(rate * weight), rng.poisson(rate * (1 - weight))
    x_g = rng.binomial(n_g, np.broadcast_to(np.minimum(world.p_g, 1.0), shape))
    x_b = rng.binomial(n_b, np.broadcast_to(np.minimum(world.p_b, 1.0), shape))
    slower = (1 - world.tail_g) * shares(world.scale_g) + world.tail_g * shares(np.asarray(world.scale_g) * 4.0)
    h_g = rng.multinomial(n_g, np.broadcast_to(slower, (*shape, len(BASE))))
    h_b = rng.multinomial(n_b, np.broadcast_to(shares(world.scale_b), (*shape, len(BASE))))
    return Canaries(n_g, n_b, x_g, x_b, h_g, h_b)


def healthy(cell: str, canaries: int) -> Canaries:
    """`fa/<scenario>/<base error rate>/<rps>/<weight>`: both colours are alike, in ways that tempt a judge."""
    _, name, base, requests, share = cell.split("/")
    rng, rate = generator(cell), float(base)
    drawn = draw(rng, scenario(rng, name, rate, canaries), rps=float(requests), weight=float(share), canaries=canaries)
    if name != "clump10":
        return drawn
    clumped = generator(f"{cell}/c")
    x_g = clumps(clumped, drawn.n_g, rate)
    return replace(drawn, x_g=x_g, x_b=clumps(clumped, drawn.n_b, rate))


def scenario(rng: np.random.Generator, name: str, rate: float, canaries: int) -> World:
    shape = (canaries, LOOKS)
    if name in ("iid", "clump10"):
        return World(rate, rate)
    if name == "diurnal":
        way = np.linspace(0, 1, LOOKS)
        errors, scale = rate * (1 + 4 * way), 1 + 0.6 * way
        return World(errors, errors, scale, scale, load=1 + 2 * way)
    if name == "shared_burst":
        hit, added, slower = rng.random(shape) < 0.05, rng.uniform(0.05, 0.30, shape), rng.uniform(1.5, 3.0, shape)
        errors, scale = rate + hit * added, np.where(hit, slower, 1.0)
        return World(errors, errors, scale, scale)
    if name in ("noise_10_3", "noise_30_5"):
        on_errors, on_latency = (0.10, 0.03) if name == "noise_10_3" else (0.30, 0.05)
        p_b, p_g = (rate * np.exp(on_errors / sqrt(2) * rng.standard_normal(shape)) for _ in range(2))
        scale_b, scale_g = (np.exp(on_latency / sqrt(2) * rng.standard_normal(shape)) for _ in range(2))
        return World(p_g, p_b, scale_g, scale_b)
    raise ValueError(f"unknown scenario {name}")


def clumps(rng: np.random.Generator, requests: Numbers, rate: float) -> Numbers:
    """Errors in geometric clumps of about ten of one colour: one client that tries again and again, one poisoned connection."""
    number = rng.poisson(requests * rate / 10)
    errors = np.minimum(requests, number + rng.negative_binomial(np.maximum(number, 1), 1 / 10))
    return np.asarray(np.where(number == 0, 0, errors))


def regressed(cell: str, canaries: int) -> Canaries:
    """`err/(<rate before>, <rate after>)/<weight>/<rps>` or `lat/<scale>/<weight>/<rps>`, present from the first look on."""
    kind, what, share, requests = cell.split("/")
    return draw(generator(cell), regression(kind, what), rps=float(requests), weight=float(share), canaries=canaries)


def regression(kind: str, what: str) -> World:
    if kind == "err":
        before, after = (float(part) for part in what.strip("()").split(","))
        return World(after, before)
    return World(0.002, 0.002, scale_g=float(what))


def oracle_bound(cell: str, alpha: float = 0.01) -> float:
    """The requests that an oracle which knows both distributions needs on average: log(1/alpha) over the growth rate per request."""
    kind, what, share, _ = cell.split("/")
    world, w = regression(kind, what), float(share)
    if kind == "err":
        green, blue = (np.array([rate, 1 - float(rate)]) for rate in (world.p_g, world.p_b))
    else:
        green, blue = shares(world.scale_g), shares(1.0)
    mixed = w * green + (1 - w) * blue
    rate = w * _divergence(green, mixed) + (1 - w) * _divergence(blue, mixed)
    return log(1 / alpha) / rate


def _divergence(p: Numbers, q: Numbers) -> float:
    seen = p > 0
    return float(np.sum(p[seen] * np.log(p[seen] / q[seen])))
