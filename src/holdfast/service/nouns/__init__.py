"""Settings-like nouns: described, and kept by one list, create, change and delete for all."""
