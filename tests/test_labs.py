"""Every lab of the course passes the quality gate."""

from __future__ import annotations

import os

import pytest
from conftest import ROOT

from autograder.course import open_course
from autograder.verify import verify_lab

COURSE = open_course(ROOT)


@pytest.mark.parametrize("lab", COURSE.lab_names())
def test_the_lab_grades_what_it_claims_to_grade(lab: str) -> None:
    report = verify_lab(COURSE, lab, jobs=os.cpu_count() or 1)
    assert report.misses == []
    assert report.points == 100
