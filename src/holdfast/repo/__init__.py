"""The restic repository format, versions 1 and 2, and the engine on it."""
