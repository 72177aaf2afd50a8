"""Giving back: from a snapshot into a directory, and nowhere else."""
