"""Running the cells of a notebook and saying what became of each.

`executor` runs cells in the current process, `pool` gives each notebook a process of its own.
"""
