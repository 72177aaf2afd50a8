"""Databases of running servers, and of files that somebody writes to."""
