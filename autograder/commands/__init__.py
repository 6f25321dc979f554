"""The commands of the command line, by who uses them: `author`, `student`, `instructor`.

Each command opens the course, calls one function of the package and prints what came of it.
"""
