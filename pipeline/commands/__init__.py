"""What people see beside the results: tables on the terminal, a start config, progress on stderr.

A command that looks at something has its facts in a module of its name: `plan`, `status`, `verify`, `report`,
`inspect`, `doctor`, `catalog`; `text` says how they are printed, by `layout`. Read `status` and `text` first.
`template` writes `config new` for what `inputs` finds, `hints` says what to type in the place of what is no config,
`progress` listens to `blocks.events`. What `evaluate` finds has files of its own; it works on a `temporary` job, as
`plan` does. `options` are those of several commands. The folder bids is a BIDS App.
"""
