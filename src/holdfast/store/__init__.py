"""Bytes by name: where repositories lie."""
