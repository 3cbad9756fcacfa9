"""One file per format; reader and writer live together: what was read must be what is written."""
