"""Statistics, solvers and calibration: numpy in, numpy out, nothing known of files or images.

Read `situation` first (distance and family of a hole pixel), then `statistics` (local mean and scale), `calibration`
(true error bars), `solve` (sparse equations) and `metrics`.
"""
