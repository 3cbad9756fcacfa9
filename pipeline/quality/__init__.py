"""Hole-only metrics, the self-test, calibration and evaluation."""
