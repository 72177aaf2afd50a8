"""Asking an API: requests, sessions, credentials, pages and the way through them."""
