"""Authoring, releasing and grading the labs of the course."""

__version__ = "0.1.0"
