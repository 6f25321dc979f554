"""Running the cells of notebooks and saying what became of each.

`trials` says what goes in and comes out.  `host` starts a warm process (`zygote`), in a sandbox
(`sandbox`) where there is one; for each trial it forks a keeper, which lets the notebook's code run
in a process of its own (`world`, `executor`, guarded by `guard`) and tests that need not share that
process in another (`judge`).
"""
