"""The same bytes from jobs of a real Slurm, from shares, and from schedulers of others."""
