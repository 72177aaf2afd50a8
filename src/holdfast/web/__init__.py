"""Listeners, security and streaming, and the faces: each parses, calls `service`, and renders."""
