"""A second generator of synthetic skin, which shares no code with ``skinoct_training.phantom`` and sees skin otherwise.

Anatomy of its own, four instruments of their own (full-field, line-field confocal, coarse, commercial spectral-domain).
What a network learns from both generators is less likely to be a habit of one.
"""
