"""Skin of another generator: what the shipped checkpoint makes of synthetic tomograms that nothing was trained on.

``generate`` draws and writes them, ``measure`` segments them and writes docs/unseen.md. The generator knows nothing of
``skinoct_training.phantom`` and shares no code with it: that is its use.
"""
