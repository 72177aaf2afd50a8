"""Runs: from the first request to a published archive."""
