"""Where blocks run: one file per executor, each of which may only decide where, never what.

Read `base` first (what an executor promises), then `serial` and `local`; `_choose` is what `auto` means.
"""
