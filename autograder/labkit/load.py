"""Load as real services see it: arrivals without memory, keys with favourites."""

from __future__ import annotations

import numpy as np


def poisson_arrivals(rate: float, seconds: float, seed: int) -> np.ndarray:
    """Arrival times in [0, `seconds`) of a Poisson process of `rate` per second, ascending.

    Raises ValueError unless both are positive.
    """
    if rate <= 0 or seconds <= 0:
        raise ValueError("rate and seconds must be positive")
    random = np.random.default_rng(seed)
    times = np.empty(0)
    while not len(times) or times[-1] < seconds:
        gaps = random.exponential(1 / rate, size=int(rate * seconds) + 16)
        start = times[-1] if len(times) else 0.0
        times = np.concatenate([times, start + np.cumsum(gaps)])
    return times[times < seconds]


def zipf_keys(count: int, keys: int, exponent: float, seed: int) -> np.ndarray:
    """`count` draws from 0..`keys`-1 where key i has probability proportional to (i+1)^-exponent.

    Unlike `numpy.random.zipf` the support is finite and the exponent may be at most 1, as it is in
    measured traffic.  Returns int64, shape (count,).
    """
    weight = np.arange(1, keys + 1, dtype=float) ** -exponent
    drawn = np.random.default_rng(seed).random(count)
    return np.searchsorted(np.cumsum(weight) / weight.sum(), drawn).astype(np.int64)
