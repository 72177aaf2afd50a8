"""Where data comes from, as a stream of entries."""
