"""What records lead to: details and files."""
