"""Keeping a repository well: check, forget, prune, repair, copy."""
