"""Segment skin: the Fiji plugin of skinoct."""

__version__ = "0.1.0"
