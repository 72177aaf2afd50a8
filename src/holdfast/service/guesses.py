"""Guesses: how often wrong credentials may be tried."""
