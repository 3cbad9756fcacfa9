"""Where blocks run: one file per executor."""
