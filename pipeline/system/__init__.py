"""The ground: files, locks, signals, facts of the machine, units and YAML; nothing known of images.

Read `files` first (how to write so that a crash harms nothing), then what you need.
"""
