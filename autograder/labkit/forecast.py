"""A forecast before, a measurement after: both on one axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Forecast:
    """What a student expects a quantity to be."""

    value: float
    unit: str


forecasts: dict[str, Forecast] = {}
"""The forecasts made in this notebook, by label."""


def predict(label: str, value: float, unit: str = "") -> None:
    """Keep a forecast for `plot_vs`; raises TypeError when `value` is not a number."""
    forecasts[label] = Forecast(float(value), unit)
    print(f"Noted: {label} = {value:g} {unit}".rstrip())


def plot_vs(
    label: str,
    theory: Mapping[float, float],
    measured: Mapping[float, float] | Sequence[tuple[float, float]],
    xlabel: str = "",
) -> None:
    """Draw theory (line), measurement (points) and the forecast noted under `label` (dashes)."""
    import matplotlib.pyplot as plt

    forecast = forecasts.get(label)
    _, axes = plt.subplots(figsize=(6, 3.5))
    axes.plot(list(theory), list(theory.values()), label="theory")
    points = list(measured.items()) if isinstance(measured, Mapping) else list(measured)
    axes.plot([x for x, _ in points], [y for _, y in points], "o", label="measured")
    if forecast:
        axes.axhline(forecast.value, linestyle="--", color="0.4", label="your forecast")
    axes.set_xlabel(xlabel)
    axes.set_ylabel(f"{label} ({forecast.unit})" if forecast and forecast.unit else label)
    axes.legend()
    plt.show()
