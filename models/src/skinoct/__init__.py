"""What a skinoct model means: labels, tomograms, ROIs, decoding and measuring of skin layers.

Everything that can be imported from the modules listed in ``docs/adr/0001-architecture.md`` as *top* works
without torch; ``unet``, ``checkpoint``, ``predictor`` and ``engines`` need the extra ``skinoct[torch]``.
"""

__version__ = "0.1.0"
