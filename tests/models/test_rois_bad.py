"""Every bad ROI set gets one clear sentence that names file, ROI and slice."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from roifile import ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from skinoct.errors import RoiError, SkinoctError
from skinoct.labels import Label
from skinoct.rois import Paths, Roi, rasterize, read_roi_set


def roi(**fields: object) -> bytes:
    result = ImagejRoi.frompoints(np.array([[1, 1], [6, 1], [6, 6]]), name="")
    for key, value in fields.items():
        setattr(result, key, value)
    return result.tobytes()


def zipped(*entries: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return file.getvalue()


def encrypted() -> bytes:
    data = bytearray(zipped(("dej.roi", roi())))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def with_nan() -> bytes:
    raw = ImagejRoi.frompoints(np.array([[1.0, 1], [6, 1], [6, 6]]), name="")
    raw.subpixel_coordinates[1, 0] = np.nan
    return raw.tobytes()


BAD: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "nothing": (lambda: b"", "not-an-roi-set", "neither a RoiSet.zip"),
    "not a zip": (lambda: b"hello", "not-an-roi-set", "neither a RoiSet.zip"),
    "cut off zip": (lambda: zipped(("dej.roi", roi()))[:-30], "damaged-zip", "damaged or cut off"),
    "empty zip": (lambda: zipped(), "empty-roi-set", "holds no ROIs"),
    "only bystanders": (
        lambda: zipped(("__MACOSX/._dej.roi", b"x"), (".DS_Store", b"x")),
        "empty-roi-set",
        "no ROIs",
    ),
    "encrypted": (encrypted, "encrypted-zip", "encrypted"),
    "a zip in it": (
        lambda: zipped(("inner.zip", zipped(("dej.roi", roi())))),
        "nested-zip",
        "another zip, inner.zip",
    ),
    "something else in it": (
        lambda: zipped(("notes.txt", b"hello")),
        "not-an-roi",
        "notes.txt in bad is not",
    ),
    "cut off roi": (lambda: zipped(("dej.roi", roi()[:70])), "not-an-roi", "dej in bad"),
    "bomb": (
        lambda: zipped(("dej.roi", b"Iout" + bytes(50_000_000)), compression=zipfile.ZIP_DEFLATED),
        "zip-too-large",
        "unpacks to more",
    ),
    "NaN": (lambda: zipped(("dej.roi", with_nan())), "not-an-roi", "dej in bad has impossible coordinates"),
    "a point": (
        lambda: zipped(("dej.roi", roi(roitype=ROI_TYPE.POINT))),
        "unsupported-roi",
        "covers no area",
    ),
    "an angle": (
        lambda: zipped(("dej.roi", roi(roitype=ROI_TYPE.ANGLE))),
        "unsupported-roi",
        "covers no area",
    ),
    "text": (
        lambda: zipped(("dej.roi", roi(roitype=ROI_TYPE.RECT, subtype=ROI_SUBTYPE.TEXT, text="a"))),
        "unsupported-roi",
        "type text",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_one_clear_sentence(case: str) -> None:
    make, kind, words = BAD[case]
    with pytest.raises(RoiError, match=words) as caught:
        read_roi_set(make(), name="bad")
    assert caught.value.kind == kind
    assert "bad" in str(caught.value)


def test_a_bomb_that_lies_about_its_size() -> None:
    data = bytearray(zipped(("dej.roi", b"Iout" + bytes(50_000_000)), compression=zipfile.ZIP_DEFLATED))
    central = data.index(b"PK\x01\x02")
    data[central + 24 : central + 28] = (100).to_bytes(4, "little")
    with pytest.raises(RoiError):
        read_roi_set(bytes(data))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(RoiError, match="cannot be read"):
        read_roi_set(tmp_path / "none.zip")


def square(name: str, left: float, top: float, label: Label | None, slice_index: int | None = 0) -> Roi:
    corners = np.array([[0, 0], [6, 0], [6, 6], [0, 6]]) + np.array([left, top], np.float64)
    return Roi(name, label, slice_index, Paths((corners,)), "RoiSet.zip")


@pytest.mark.parametrize(
    ("rois", "kind", "words"),
    [
        (
            [square("odd one", 0, 0, None)],
            "unknown-class",
            "ROI odd one in RoiSet.zip does not tell its class.*glass, glycerol, epidermis, dej, dermis",
        ),
        (
            [square("dej", 0, 0, Label.DEJ, None)],
            "unknown-slice",
            "ROI dej in RoiSet.zip does not tell its slice",
        ),
        (
            [square("dej", 0, 0, Label.DEJ, 4)],
            "slice-out-of-range",
            "ROI dej in RoiSet.zip lies in slice 5, but the tomogram has 4",
        ),
        (
            [square("dej", 300, 0, Label.DEJ, 2)],
            "outside-image",
            r"ROI dej in RoiSet.zip \(slice 3\) covers no pixel of the image, which has 16 rows and 20",
        ),
        (
            [square("epidermis-1", 0, 0, Label.EPIDERMIS), square("dermis-7", 2, 3, Label.DERMIS)],
            "overlapping-classes",
            "ROI epidermis-1 in RoiSet.zip and ROI dermis-7 overlap in slice 1 .*epidermis, dermis",
        ),
    ],
)
def test_sets_that_do_not_fit(rois: list[Roi], kind: str, words: str) -> None:
    with pytest.raises(RoiError, match=words) as caught:
        rasterize(rois, (4, 16, 20))
    assert caught.value.kind == kind


def test_the_only_slice_needs_no_telling() -> None:
    assert rasterize([square("dej", 0, 0, Label.DEJ, None)], (1, 16, 20)).any()


def test_an_overlap_hidden_by_the_dej_is_no_contradiction() -> None:
    rois = [square("epidermis", 0, 0, Label.EPIDERMIS), square("dermis", 0, 3, Label.DERMIS)]
    band = Roi("dej", Label.DEJ, 0, Paths((np.array([[0.0, 2], [8, 2], [8, 7], [0, 7]]),)))
    assert (rasterize([*rois, band], (1, 16, 20))[0, 2:7, :8] == Label.DEJ).all()


def test_damaged_anywhere() -> None:
    """Whatever a flipped byte does, the user never sees anything but a sentence of ours."""
    random = np.random.default_rng(4)
    segments = np.array([0, 1, 1, 1, 9, 1, 3, 9, 5, 7, 8, 2, 9, 4], np.float32)
    composite = ImagejRoi(
        roitype=ROI_TYPE.RECT, shape_roi_size=len(segments), multi_coordinates=segments, right=9, bottom=9
    )
    line = ImagejRoi.frompoints(np.array([[1.5, 1], [6, 1], [6, 6]]), name="dej")
    line.roitype, line.stroke_width = ROI_TYPE.FREELINE, 3
    samples = [
        roi(name="dej", position=1),
        composite.tobytes(),
        line.tobytes(),
        ImagejRoi(roitype=ROI_TYPE.OVAL, right=9, bottom=9, position=1).tobytes(),
        zipped(
            ("dej.roi", roi(position=1)),
            ("dermis.roi", composite.tobytes()),
            compression=zipfile.ZIP_DEFLATED,
        ),
    ]
    for data in samples:
        for _ in range(800):
            damaged = bytearray(data)
            for position in random.integers(0, len(data), random.integers(1, 4)):
                damaged[position] = random.choice([0, 1, 0x7F, 0xFF, random.integers(256)])
            with contextlib.suppress(SkinoctError):
                rasterize(read_roi_set(bytes(damaged)), (3, 12, 12))
