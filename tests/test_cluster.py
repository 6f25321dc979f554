"""The work of grading goes to a Dask cluster, and comes out as on one machine."""

from __future__ import annotations

import datetime
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import LocalCluster
from distributed.security import Security
from small_lab import make_course, save, solved

from autograder.course import Course, MachineryError, open_course
from autograder.engine.trials import Limits
from autograder.grading import Outcome, grade

LIMITS = Limits(cell_seconds=10.0, total_seconds=60.0)


@pytest.fixture
def course(tmp_path: Path) -> Course:
    course = open_course(make_course(tmp_path / "course").root, tmp_path / "class")
    for number in range(10):
        answer = f"def total(values):\n    return sum(values) + {number % 2}  # {number}"
        name = f"s{number}"
        save(solved(total=answer), course.submitted / name / "two" / "two.ipynb")
    return course


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        yield cluster


def scores(outcomes: list[Outcome]) -> dict[str, float | None]:
    return {outcome.student: outcome.score for outcome in outcomes}


EXPECTED = {f"s{number}": 40.0 if number % 2 else 90.0 for number in range(10)}


def test_several_workers_one_of_which_is_killed(course: Course, cluster: LocalCluster) -> None:
    killed: list[int] = []

    def kill_one(outcome: Outcome) -> None:
        if not killed:
            killed.append(next(iter(cluster.workers.values())).pid)
            os.kill(killed[0], signal.SIGKILL)

    outcomes = grade(
        course, ["two"], limits=LIMITS, scheduler=cluster.scheduler_address, on_done=kill_one
    )
    assert killed
    assert scores(outcomes) == EXPECTED
    assert {outcome.state for outcome in outcomes} == {"graded"}


def test_no_scheduler_is_one_clear_error(course: Course) -> None:
    with pytest.raises(MachineryError, match=r"tcp://127.0.0.1:9: no scheduler there"):
        grade(course, ["two"], scheduler="tcp://127.0.0.1:9")


def certificate(folder: Path) -> tuple[str, str]:
    """A self-signed certificate for this machine, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "grading cluster")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(cert_file), str(key_file)


def test_over_tls(course: Course, tmp_path: Path) -> None:
    import dask

    cert, key = certificate(tmp_path)
    settings: dict[str, object] = {"distributed.comm.tls.ca-file": cert}
    for role in ("client", "scheduler", "worker"):
        settings[f"distributed.comm.tls.{role}.cert"] = cert
        settings[f"distributed.comm.tls.{role}.key"] = key
    with dask.config.set({**settings, "distributed.comm.require-encryption": True}):
        security = Security()
        with LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            security=security,
            protocol="tls://",
        ) as cluster:
            address = cluster.scheduler_address
            assert address.startswith("tls://")
            outcomes = grade(course, ["two"], limits=LIMITS, scheduler=address)
    assert scores(outcomes) == EXPECTED
