"""Synthetic scenes and heads, deterministic by seed, for demos, tests and training free of licences."""
