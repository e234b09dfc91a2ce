"""The same in a full Fiji, opened through ``imagej.init``; needs FIJI_DIR."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.fiji

OURS = "[r for r in (img.getOverlay().toArray() if img.getOverlay() else []) if r.getProperty('skinoct')]"


def test_click_in_a_full_fiji(fiji, fake):
    fiji("img = ij.IJ.createImage('skin', '8-bit ramp', 128, 64, 6); img.show()")
    fiji.choose("Plugins", "Skin", "Segment skin")
    fiji.until("window('Segment skin') is not None")
    fiji.ok("Segment skin")
    fiji.until(f"len({OURS}) == 6")


def test_macro_in_a_full_fiji(fiji, fake):
    fiji("img = ij.IJ.createImage('skin', '16-bit ramp', 128, 64, 4); img.show()")
    code = f'run("Segment skin", "server={fake.url} opacity=60"); return "done";'
    assert fiji(f"str(ij.IJ.runMacro({code!r}))") == "done"
    assert fiji(f"len({OURS})") == 4
    assert fiji(f"{OURS}[0].getFillColor().getAlpha()") == 153


def test_macro_error_in_a_full_fiji_can_be_caught(fiji, fake):
    fiji("img = ij.IJ.createImage('skin', '16-bit ramp', 128, 64, 4); img.show()")
    code = 'run("Segment skin", "server=http://127.0.0.1:9"); return "not stopped";'
    assert "skinoct-server serve" in fiji(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))")
