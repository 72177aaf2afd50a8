"""Where every blob lies: the index, in memory and in its files."""
