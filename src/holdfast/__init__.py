"""Holdfast collects, keeps and gives back."""

__version__ = "0.1.0"
