"""All that a block needs to know, decided before the first block runs: immutable, hashed, may refuse.

Read `job` first (what was asked for), then `plan` (what was decided), `refs` (how to open things again), `facts`
and `bounds` (what is kept beside it, and what both are held to when a run goes on) and `memory` (what it costs, when it
is refused).
"""
