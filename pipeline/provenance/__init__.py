"""One record of a run, rendered into several standards."""
