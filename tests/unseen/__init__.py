"""Skin of another generator: what the shipped checkpoint makes of synthetic tomograms that nothing was trained on.

``generate`` draws and writes them, ``measure`` segments them and writes docs/unseen.md. The generator knows nothing of
those that networks are trained on and shares no code with them: that is its use.

``recipe`` holds the parameters of one tomogram and ``instruments`` draws them at random. ``relief`` shapes surface
and DEJ; ``corneum``, ``cells``, ``fibers`` and ``inclusions`` build what scatters, ``tissue`` puts it together,
``optics`` sends light through it, ``display`` turns light into gray values. Heights are micrometers below the top of
the image, growing downward; axes are (Z, Y, X).
"""
