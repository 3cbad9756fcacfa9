"""All that a block needs to know, decided before the first block runs: immutable, hashed, may refuse.

Read `job` first (what was asked for), then `plan` (what was decided), `refs` (how to open things again) and `memory`
(what it costs, when it is refused).
"""
