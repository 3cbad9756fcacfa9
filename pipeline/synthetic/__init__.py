"""Scenes and volumes made by formulas, for the demos, for training and for tests.

Read `demo` first (what is written), then `optical` and `brain`; `body` and `noise` are shared.
"""
