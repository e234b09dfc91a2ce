"""Synthetic skin tomograms with their truth: geometry, tissue, optics and artifacts, each drawn from one seed.

A phantom is a stand-in while a lab's tomograms are private. Every score measured on one is a score on synthetic
data and is labeled as such.
"""
