"""HTTP server that segments skin tomograms."""

__version__ = "0.1.0"
