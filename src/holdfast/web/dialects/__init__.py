"""One module or package for each face. They know nothing of one another."""
