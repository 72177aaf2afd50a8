"""Disks and volumes as images."""
