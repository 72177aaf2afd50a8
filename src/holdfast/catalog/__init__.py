"""What the server knows. Repositories are the truth; this is an index plus intentions."""
