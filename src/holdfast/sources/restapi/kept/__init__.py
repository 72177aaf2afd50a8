"""What was received, kept so that a process may die at any moment."""
