"""Fit weights on images without ground truth: hide observed pixels, restore them, learn from the error."""
