"""The teaching harness that the labs import.

Processes that end when they should (`workers`), connections that count (`links`), records of what
happened when (`events`), time that a test controls (`clock`), memory and copies (`memory`), load as
services see it (`load`), forecasts beside measurements (`forecast`), and assertions that say what
to look at (`expect`).
"""

from autograder.labkit.clock import FakeClock
from autograder.labkit.events import EventLog
from autograder.labkit.expect import (
    TaskFailed,
    expect,
    expect_close,
    expect_equal,
    expect_raises,
    within,
)
from autograder.labkit.forecast import plot_vs, predict
from autograder.labkit.links import Comm, Fault, Link, connect, listen, mesh
from autograder.labkit.load import poisson_arrivals, zipf_keys
from autograder.labkit.memory import CountingArray, live_bytes, peak_bytes
from autograder.labkit.workers import Result, Worker, run_workers

__all__ = [
    "Comm",
    "CountingArray",
    "EventLog",
    "FakeClock",
    "Fault",
    "Link",
    "Result",
    "TaskFailed",
    "Worker",
    "connect",
    "expect",
    "expect_close",
    "expect_equal",
    "expect_raises",
    "listen",
    "live_bytes",
    "mesh",
    "peak_bytes",
    "plot_vs",
    "poisson_arrivals",
    "predict",
    "run_workers",
    "within",
    "zipf_keys",
]
