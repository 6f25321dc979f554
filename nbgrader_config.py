"""The course as stock nbgrader and its formgrader see it.

`nbgrader` reads this file in the folder in which it is started. `_build/source` is written by
`autograder release`; AUTOGRADER_CLASS names the class's folder, AUTOGRADER_DB another database.
"""

import os
from pathlib import Path

from autograder.course import open_course

course = open_course(
    Path(__file__).resolve().parent,
    Path(os.environ["AUTOGRADER_CLASS"]) if os.environ.get("AUTOGRADER_CLASS") else None,
)

c = get_config()  # noqa: F821
c.CourseDirectory.root = str(course.root)
c.CourseDirectory.course_id = "mlsys"
c.CourseDirectory.source_directory = str(course.source_dir)
c.CourseDirectory.release_directory = str(course.labs_dir)
c.CourseDirectory.submitted_directory = str(course.submitted)
c.CourseDirectory.autograded_directory = str(course.autograded)
c.CourseDirectory.feedback_directory = str(course.feedback)
c.CourseDirectory.db_url = course.db_url
c.AssignLatePenalties.plugin_class = "autograder.late.LatePolicy"
c.LatePolicy.course_root = str(course.root)
c.LatePolicy.class_dir = str(course.class_dir)
