"""The sandbox: what code in it can see and reach.

Two layers.  `command` puts the warm process into bubblewrap, with nothing of the machine but the
interpreter, its packages and the harness, read-only, and no network.  `enter` gives each notebook
namespaces of its own inside that (user, mount, pid, net, ipc, uts): a private home and /tmp, a
loopback, no sight of any other process, no privileges and no way to new ones.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

from autograder.engine.trials import Limits

HOME = "/home/student"
PACKAGE = Path(__file__).resolve().parent.parent
LIBRARY, ENVIRONMENT = "/opt/course", "/opt/environment"
"""Where the harness and the virtual environment lie inside: their places outside may be hidden."""
NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 0x4000, 0x40000
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP = 1, 38, 24
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
SIGKILL = 9


def environment(library: str, home: str, python: str = sys.executable) -> dict[str, str]:
    """The whole environment of code under grading, which `python` will run."""
    return {
        "PATH": f"{Path(python).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": home,
        "LANG": "C.UTF-8",
        "PYTHONPATH": library,
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "NBGRADER_EXECUTION": "autograde",
        **{key: os.environ[key] for key in ("OPENBLAS_CORETYPE",) if key in os.environ},
    }


def missing() -> str:
    """Why there is no sandbox on this machine, with what to do about it; empty where there is."""
    if not sys.platform.startswith("linux"):
        return "the sandbox needs Linux"
    if not shutil.which("bwrap"):
        return "bubblewrap is not installed: apt-get install bubblewrap"
    outer = ["bwrap", "--unshare-user", "--unshare-net", "--ro-bind", "/", "/"]
    outer += ["--dev-bind", "/proc", "/proc"]
    for program in (["true"], ["unshare", "--user", "--net", "true"]):
        probe = subprocess.run([*outer, *program], capture_output=True, text=True)
        if probe.returncode:
            cause = (probe.stderr.strip().splitlines() or ["it does not say why"])[-1]
            return (
                f"namespaces are not permitted here ({cause}): as root, sysctl"
                " kernel.unprivileged_userns_clone=1 (Debian) or"
                " kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu); in a container, let it"
                " make user namespaces"
            )
    return ""


def command(arguments: list[str]) -> list[str]:
    """Python with `arguments` in bubblewrap; it keeps standard input, output and error."""
    virtual = sys.prefix != sys.base_prefix
    python = f"{ENVIRONMENT}/bin/python" if virtual else sys.executable
    line = ["bwrap", "--unshare-user", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    line += ["--die-with-parent", "--new-session", "--clearenv", "--uid", "65534", "--gid", "65534"]
    line += ["--hostname", "grader"]
    for name, value in environment(LIBRARY, HOME, python).items():
        line += ["--setenv", name, value]
    for place in ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin"):
        path = Path(place)
        if path.is_symlink():
            line += ["--symlink", str(path.readlink()), place]
        elif path.is_dir():
            line += ["--ro-bind", place, place]
    for place in ("/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts", "/etc/localtime"):
        line += ["--ro-bind-try", place, place]
    line += ["--tmpfs", "/tmp", "--tmpfs", HOME]
    if not Path(sys.base_prefix).is_relative_to("/usr"):
        line += ["--ro-bind", sys.base_prefix, sys.base_prefix]
    if virtual:
        line += ["--ro-bind", sys.prefix, ENVIRONMENT]
    line += ["--ro-bind", str(PACKAGE), f"{LIBRARY}/{PACKAGE.name}"]
    line += ["--dev-bind", "/proc", "/proc", "--dev", "/dev"]
    return [*line, "--chdir", HOME, "--", python, *arguments]


_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def die_with_parent() -> None:
    """Have the kernel end this process when the one that started it ends."""
    if sys.platform.startswith("linux"):
        _libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)


def unshare() -> None:
    """Give this process and its children new namespaces; its next child is their first process."""
    uid, gid = os.getuid(), os.getgid()
    flags = NEWUSER | NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS
    _check(_libc.unshare(flags), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    die_with_parent()


def furnish(limits: Limits) -> None:
    """In the first process of new namespaces: private places, a loopback, no privileges."""
    _check(_libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "mount /")
    hidden = MS_NOSUID | MS_NODEV | MS_NOEXEC
    if _libc.mount(b"proc", b"/proc", b"proc", hidden, None):
        # Where the machine shows only part of /proc, a new one is refused; then there is none.
        _check(_libc.mount(b"tmpfs", b"/proc", b"tmpfs", hidden, b"size=0"), "mount /proc")
    size = f"size={limits.file_bytes},nr_inodes=20000".encode()
    for place in (b"/tmp", b"/dev/shm", HOME.encode()):
        _check(_libc.mount(b"tmpfs", place, b"tmpfs", MS_NOSUID | MS_NODEV, size), place.decode())
    _loopback()
    os.chdir(HOME)


def _loopback() -> None:
    up = 0x1 | 0x40
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, 0x8914, struct.pack("16sh22x", b"lo", up))


def drop_privileges() -> None:
    """Give up every capability, for this process and what it starts, for good."""
    _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for capability in range(64):
        if _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
            break
    header = struct.pack("Ii", 0x20080522, 0)
    _check(_libc.capset(header, bytes(24)), "capset")
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    die_with_parent()


def restrict(limits: Limits) -> None:
    """Set the limits that the kernel keeps for each process."""
    ceilings = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_NOFILE: 1024,
    }
    if sys.platform.startswith("linux"):
        ceilings[resource.RLIMIT_DATA] = limits.memory
    for what, ceiling in ceilings.items():
        _, hard = resource.getrlimit(what)
        if hard != resource.RLIM_INFINITY:
            ceiling = min(ceiling, hard)
        resource.setrlimit(what, (ceiling, ceiling))
