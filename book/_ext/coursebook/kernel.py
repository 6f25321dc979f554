"""The surroundings of executed cells: one figure style, one thread, no code for either."""

from __future__ import annotations

import os
from pathlib import Path

from .places import BUILD

PROFILE = """\
c = get_config()
c.InlineBackend.figure_formats = {"svg"}
c.InlineBackend.rc = {}
c.InlineBackend.print_figure_kwargs = {"bbox_inches": None, "metadata": {"Date": None}}
c.HistoryManager.enabled = False
c.IPKernelApp.log_level = 40
"""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def prepare(build: Path = BUILD) -> None:
    """Set the environment that a chapter's kernel will inherit; writes IPython's profile."""
    home = build / "ipython"
    profile = home / "profile_default" / "ipython_kernel_config.py"
    profile.parent.mkdir(parents=True, exist_ok=True)
    if not profile.is_file() or profile.read_text(encoding="utf-8") != PROFILE:
        profile.write_text(PROFILE, encoding="utf-8")
    os.environ["IPYTHONDIR"] = str(home)
    os.environ["MATPLOTLIBRC"] = str(Path(__file__).with_name("matplotlibrc"))
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    os.environ.pop("MPLBACKEND", None)
    for name in THREADS:
        os.environ[name] = "1"
