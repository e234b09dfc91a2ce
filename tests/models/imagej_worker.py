"""Ask a real ImageJ 1: run as a script in a process of its own, since a process has only one Java.

python imagej_worker.py IJ_JAR open STACK.tif OUT.npz         pixels, calibration, dimensions, colors
python imagej_worker.py IJ_JAR save FOLDER                    stacks as users save them
python imagej_worker.py IJ_JAR masks RoiSet.zip Y X OUT.npz   what each ROI covers
python imagej_worker.py IJ_JAR decode RoiSet.zip OUT.json     names, positions, groups and colors
python imagej_worker.py IJ_JAR manager RoiSet.zip Z Y X OUT.npz SAVED.zip
    opens the set in the ROI Manager, fills each ROI with its group's number, saves the set; needs a display
"""

from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import jpype
import numpy as np


def open_stack(path: str, out: str) -> None:
    image = jpype.JClass("ij.IJ").openImage(path)
    calibration, stack = image.getCalibration(), image.getStack()
    dtype = {8: np.uint8, 16: np.uint16, 32: np.float32}[int(image.getBitDepth())]
    pixels = [np.array(stack.getPixels(i)).view(dtype) for i in range(1, stack.getSize() + 1)]
    colors = image.getProcessor().getColorModel()
    indices = range(256 if dtype is np.uint8 else 0)
    table = [[get(jpype.JInt(i)) for get in (colors.getRed, colors.getGreen, colors.getBlue)] for i in indices]
    np.savez(
        out,
        pixels=np.stack(pixels).reshape(-1, image.getHeight(), image.getWidth()),
        dimensions=np.array(image.getDimensions()),
        size=np.array([calibration.pixelDepth, calibration.pixelHeight, calibration.pixelWidth]),
        unit=np.array(str(calibration.getUnit())),
        colors=np.array(table, np.int64),
        display=np.array([image.getDisplayRangeMin(), image.getDisplayRangeMax()]),
    )


def save_stacks(folder: str) -> None:
    """Save one stack of every kind, each with values 0 to 41 in 3 slices of 2 x 7."""
    ij = jpype.JPackage("ij")

    def stack(bits: int) -> Any:
        image = ij.IJ.createImage("x", f"{bits}-bit black", 7, 2, 3)
        for index in range(42):
            processor = image.getStack().getProcessor(index // 14 + 1)
            processor.setf(index % 14 % 7, index % 14 // 7, float(index))
        return image

    def save(name: str, image: Any) -> None:
        ij.io.FileSaver(image).saveAsTiffStack(str(Path(folder, f"{name}.tif")))

    def calibrated(unit: str, x: float, y: float, z: float) -> Any:
        image = stack(8)
        calibration = image.getCalibration()
        calibration.setUnit(unit)
        calibration.pixelWidth, calibration.pixelHeight, calibration.pixelDepth = x, y, z
        return image

    for bits in (8, 16, 32):
        save(f"plain {bits}", stack(bits))
    save("um", calibrated("um", 0.9, 0.8, 2))
    save("micro sign", calibrated("\u00b5m", 0.9, 0.8, 2))
    save("mm", calibrated("mm", 0.0009, 0.0008, 0.002))
    save("inch at 300 dpi", calibrated("inch", 1 / 300, 1 / 300, 1))
    signed = stack(16)
    signed.getCalibration().setSigned16BitCalibration()
    save("signed", signed)
    inverted = stack(8)
    inverted.getProcessor().invertLut()
    inverted.getStack().setColorModel(inverted.getProcessor().getColorModel())
    save("inverted lut", inverted)
    colored = stack(8)
    ramp = jpype.JArray(jpype.JByte)([(7 * i) % 256 - 128 for i in range(256)])
    colored.getProcessor().setColorModel(ij.process.LUT(ramp, ramp, ramp))
    colored.getStack().setColorModel(colored.getProcessor().getColorModel())
    save("lut", colored)
    times = stack(8)
    times.setDimensions(1, 1, 3)
    save("times", times)
    channels = stack(8)
    channels.setDimensions(3, 1, 1)
    save("channels", ij.CompositeImage(channels))
    save("color", ij.IJ.createImage("x", "RGB black", 7, 2, 3))


def decode(data: bytes, name: str) -> Any:
    return jpype.JClass("ij.io.RoiDecoder").openFromByteArray(jpype.JArray(jpype.JByte)(data)) if name else None


def mask_of(roi: Any, height: int, width: int) -> np.ndarray:
    """Return what ImageJ fills; a line becomes the area of its width first (Edit > Selection).

    For straight lines that is the rotated rectangle of ImageJ 1.54p, whichever version this is.
    """
    gui = jpype.JPackage("ij").gui
    processor = jpype.JClass("ij.process.ByteProcessor")(width, height)
    processor.setValue(255)
    if roi.getType() == gui.Roi.LINE:
        ends = roi.getFloatPoints()
        corners = ends.xpoints[0], ends.ypoints[0], ends.xpoints[1], ends.ypoints[1]
        roi = gui.RotatedRectRoi(*corners, max(1.0, roi.getStrokeWidth()))
    elif roi.isLine():
        bounds, wide = roi.getBounds(), max(1.0, roi.getStrokeWidth())
        if round(bounds.x + bounds.width + wide) <= 0 or round(bounds.y + bounds.height + wide) <= 0:
            return np.zeros((height, width), np.bool_)  # ImageJ throws
        roi = gui.Roi.convertLineToArea(roi)
    if roi is None:
        return np.zeros((height, width), np.bool_)
    processor.fill(roi)
    return np.array(processor.getPixels()).view(np.uint8).reshape(height, width) > 0


def masks(path: str, height: int, width: int, out: str) -> None:
    with zipfile.ZipFile(path) as archive:
        found = [mask_of(decode(archive.read(n), n), height, width) for n in archive.namelist()]
    np.savez_compressed(out, masks=np.array(found))


def manager(path: str, slices: int, height: int, width: int, out: str, saved: str) -> None:
    rois = jpype.JClass("ij.plugin.frame.RoiManager")()
    image = jpype.JClass("ij.IJ").createImage("x", "8-bit black", width, height, slices)
    image.show()
    rois.runCommand("Open", path)
    for index in range(rois.getCount()):
        rois.select(image, index)
        processor = image.getProcessor()
        processor.setValue(float(rois.getRoi(index).getGroup()))
        processor.fill(image.getRoi())
    stack = image.getStack()
    pixels = [np.array(stack.getPixels(z + 1)).view(np.uint8).reshape(height, width) for z in range(slices)]
    np.savez(out, labels=np.array(pixels))
    rois.runCommand("Save", saved)


def describe(path: str, out: str) -> None:
    rois = []
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            roi = decode(archive.read(name), name)
            rois.append(
                {
                    "name": str(roi.getName()),
                    "position": int(roi.getPosition()),
                    "group": int(roi.getGroup()),
                    "fill": str(roi.getFillColor()),
                    "width": float(roi.getStrokeWidth()),
                }
            )
    Path(out).write_text(json.dumps(rois))


def main(jar: str, command: str, *rest: str) -> None:
    headless = str(command != "manager").lower()
    jpype.startJVM(f"-Djava.awt.headless={headless}", "-Xmx1g", classpath=[jar], convertStrings=True)
    if command == "open":
        open_stack(*rest)
    elif command == "save":
        save_stacks(*rest)
    elif command == "masks":
        masks(rest[0], int(rest[1]), int(rest[2]), rest[3])
    elif command == "manager":
        manager(rest[0], *map(int, rest[1:4]), *rest[4:])
    else:
        describe(*rest)
    sys.stdout.flush()
    os._exit(0)  # Java's threads would keep the process alive


if __name__ == "__main__":
    main(*sys.argv[1:])
