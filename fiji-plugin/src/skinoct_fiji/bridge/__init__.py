"""The only package that touches Java: starting it, and ImageJ's windows, images, overlays and dialogs."""
