"""What people see beside the results: tables on the terminal, a start config, progress on stderr.

Read `tables` (facts) and `said` (how they are printed, by `layout`) first; `template` writes `config new` for what
`inputs` finds, `hints` says what to type in the place of what is no config, `progress` listens to `blocks.events`.
What `evaluate` finds has files of its own; it works on a `temporary` job, as `tables` does for a plan. `options` are
those of several commands. The folder bids is a BIDS App.
"""
