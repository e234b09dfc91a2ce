"""A real skinoct-server whose engine stops where a test tells it to.

``python -m gated serve ...`` takes the arguments of ``skinoct-server``. Nothing differs but that the network waits at a
gate before each batch, the golden slice excepted, so that what a test looks at does not depend on how fast the machine
is. The gate is a file that ``SKINOCT_TEST_GATE`` names (see ``engine.py``); without the file it stands open.
"""
