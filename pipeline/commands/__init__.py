"""What people see beside the results: tables on the terminal, a start config, progress on stderr.

Read `tables` first; `template` writes `config new`, `progress` listens to `blocks.events`.
"""
