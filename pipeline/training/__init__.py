"""Fit weights on images without ground truth, by hiding observed pixels.

Read `config` first (what can be set), then `data` (samples), `loop` (the training) and `export` (weights and card).
"""
