"""Phantoms, training and evaluation of skin layer networks."""

__version__ = "0.1.0"
