"""Fit weights by hiding observed pixels; the only user of optimisers."""
