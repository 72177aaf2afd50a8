"""What pools stand on: places, the repositories in them, and their upkeep."""
