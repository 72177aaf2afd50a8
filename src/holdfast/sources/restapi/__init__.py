"""The archiver of REST APIs."""
