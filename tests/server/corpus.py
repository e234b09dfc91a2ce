"""Hostile files, made byte by byte: what a server must refuse quickly, or read in little memory.

`files()` returns a dict from a name to its bytes; nothing is stored in the repository.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import numpy as np

SHORT, LONG, RATIONAL, ASCII, DOUBLE, LONG8 = 3, 4, 5, 2, 12, 16
_SIZES = {1: 1, ASCII: 1, SHORT: 2, LONG: 4, RATIONAL: 8, 7: 1, DOUBLE: 8, 13: 4, LONG8: 8}
WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION, OFFSETS = 256, 257, 258, 259, 262, 270, 273
SAMPLES, ROWS, COUNTS, PLANAR, PREDICTOR, TILE_W, TILE_H, TILE_OFFSETS, TILE_COUNTS = (
    277, 278, 279, 284, 317, 322, 323, 324, 325,
)  # fmt: skip
SUB_IFDS, SAMPLE_FORMAT, JPEG_TABLES, ORIENTATION, FILL_ORDER = 330, 339, 347, 274, 266

Tag = tuple[int, bytes]


def shorts(*values: int) -> Tag:
    return SHORT, struct.pack(f"<{len(values)}H", *values)


def longs(*values: int) -> Tag:
    return LONG, struct.pack(f"<{len(values)}I", *values)


def text(value: bytes) -> Tag:
    return ASCII, value + b"\0"


def ifd(at: int, tags: dict[int, Tag], following: int) -> bytes:
    """An image directory that lies at offset `at`, with its values behind it."""
    entries, values = b"", b""
    start = at + 2 + 12 * len(tags) + 4
    for code, (kind, data) in sorted(tags.items()):
        count = len(data) // _SIZES.get(kind, 1)
        if len(data) <= 4:
            entries += struct.pack("<HHI", code, kind, count) + data.ljust(4, b"\0")
        else:
            entries += struct.pack("<HHII", code, kind, count, start + len(values))
            values += data
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", following) + values


def tiff(
    changes: dict[int, Tag | None] | None = None, data: bytes = bytes(range(256)) * 4, following: int = 0
) -> bytes:
    """A TIFF of 32 x 32 gray pixels, with some tags changed or, by None, removed."""
    tags: dict[int, Tag | None] = {
        WIDTH: longs(32), LENGTH: longs(32), BITS: shorts(8), COMPRESSION: shorts(1), PHOTOMETRIC: shorts(1),
        OFFSETS: longs(8), SAMPLES: shorts(1), ROWS: longs(32), COUNTS: longs(len(data)),
    }  # fmt: skip
    tags |= changes or {}
    kept = {code: tag for code, tag in tags.items() if tag is not None}
    at = 8 + len(data)
    return b"II*\0" + struct.pack("<I", at) + data + ifd(at, kept, following)


def pages(count: int, changes: dict[int, Tag | None] | None = None, data: bytes = bytes(range(256)) * 4) -> bytes:
    """A TIFF whose pages all show the same pixels."""
    one = tiff(changes, data)
    at = 8 + len(data)
    directory = one[at:]
    out = bytearray(one[:at])
    for index in range(count):
        tags_end = 2 + 12 * struct.unpack("<H", directory[:2])[0]
        following = 0 if index == count - 1 else at + len(directory) * (index + 1)
        out += directory[:tags_end] + struct.pack("<I", following) + directory[tags_end + 4 :]
    return bytes(out)


def compressed(scheme: int, data: bytes, height: int, width: int = 32) -> bytes:
    changes = {COMPRESSION: shorts(scheme), LENGTH: longs(height), WIDTH: longs(width), ROWS: longs(height)}
    return tiff(changes, data)


def _dimensions() -> dict[str, bytes]:
    head = b"ImageJ=1.54f\n"
    big = {WIDTH: longs(65535), LENGTH: longs(65535), ROWS: longs(65535)}
    tiles = {OFFSETS: None, COUNTS: None, ROWS: None, TILE_OFFSETS: longs(8), TILE_COUNTS: longs(1024)}
    return {
        "width-2-31": tiff({WIDTH: longs((1 << 31) - 1)}),
        "both-2-31": tiff({WIDTH: longs((1 << 31) - 1), LENGTH: longs((1 << 31) - 1)}),
        "65535-square": tiff(big),
        "65535-square-deflate": tiff({**big, COMPRESSION: shorts(8)}, zlib.compress(bytes(10))),
        "width-0": tiff({WIDTH: longs(0)}),
        "length-0": tiff({LENGTH: longs(0)}),
        "rows-per-strip-0": tiff({ROWS: longs(0)}),
        "one-row-strips-of-2-31": tiff({LENGTH: longs((1 << 31) - 1), ROWS: longs(1)}),
        "tile-2-31": tiff({**tiles, TILE_W: longs(1 << 31), TILE_H: longs(1 << 31)}),
        "tile-0": tiff({**tiles, TILE_W: longs(0), TILE_H: longs(0)}),
        "tile-1-pixel": tiff({**tiles, **big, ROWS: None, TILE_W: longs(1), TILE_H: longs(1)}),
        "tile-too-few": tiff({**tiles, **big, ROWS: None, TILE_W: longs(64), TILE_H: longs(64)}),
        "imagej-2-31-images": tiff({DESCRIPTION: text(head + b"images=2147483647\nslices=2147483647\n")}),
        "imagej-10-12-images": tiff({DESCRIPTION: text(head + b"images=1000000000000\n")}),
        "imagej-negative": tiff({DESCRIPTION: text(head + b"images=-5\nslices=-5\nspacing=nan\n")}),
        "imagej-nan-spacing": tiff({DESCRIPTION: text(head + b"images=1\nspacing=nan\nunit=micron\n")}),
        "4000-pages-of-one-strip": pages(4_000, {WIDTH: longs(512), LENGTH: longs(224), ROWS: longs(224)},
                                          bytes(range(256)) * 448),
    }  # fmt: skip


def _bombs() -> dict[str, bytes]:
    import imagecodecs

    zeros = bytes(64 << 20)
    lzw = imagecodecs.lzw_encode(zeros)
    return {
        "deflate-bomb-small-image": compressed(8, zlib.compress(zeros, 9), 32),
        "deflate-bomb-large-image": compressed(8, zlib.compress(zeros, 9), 32768, 32768),
        "deflate-bomb-of-bomb": compressed(8, zlib.compress(zlib.compress(zeros, 9), 9), 4096, 4096),
        "adobe-deflate-bomb": compressed(32946, zlib.compress(zeros, 9), 32),
        "zstd-bomb": compressed(50000, imagecodecs.zstd_encode(zeros), 32),
        "zstd-bomb-large-image": compressed(50000, imagecodecs.zstd_encode(zeros), 32768, 32768),
        "lzw-bomb": compressed(5, lzw, 32),
        "lzw-bomb-large-image": compressed(5, lzw, 32768, 32768),
        "packbits-bomb": compressed(32773, b"\x81\x00" * 500_000, 32),
        "lerc": compressed(34887, b"Lerc2 " + struct.pack("<IIIIII", 4, 0, 1 << 30, 1 << 30, 1, 1) + bytes(40), 32),
        "jpeg2000": compressed(34712, b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100), 32),
        "webp": compressed(50001, b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(20), 32),
        "jpeg-garbage": compressed(7, b"\xff\xd8\xff\xe0" + bytes(200), 32),
        "jpeg-huge-frame": compressed(
            7, b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0\xff\xda\0\x08\x01\x01\0\0\x3f\0", 32
        ),
        "ccitt": compressed(4, bytes(100), 32),
        "unknown-codec": compressed(65000, bytes(100), 32),
        "deflate-garbage": compressed(8, b"not deflate at all" * 9, 32),
        "deflate-cut": compressed(8, zlib.compress(bytes(range(256)) * 4)[:60], 32),
        "lzw-garbage": compressed(5, bytes(range(255, 0, -1)), 32),
        "zstd-garbage": compressed(50000, b"\x28\xb5\x2f\xfd" + bytes(60), 32),
    }


def _chains() -> dict[str, bytes]:
    valid = tiff()
    at = struct.unpack("<I", valid[4:8])[0]
    cycle = pages(3)
    first, second = at, at + (len(cycle) - at) // 3
    tags_end = second + 2 + 12 * struct.unpack("<H", cycle[second : second + 2])[0]
    return {
        "ifd-self-loop": tiff(following=at),
        "ifd-cycle": cycle[:tags_end] + struct.pack("<I", first) + cycle[tags_end + 4 :],
        "ifd-past-end": tiff(following=0xFFFFFFF0),
        "ifd-in-header": tiff(following=2),
        "ifd-in-pixels": tiff(following=9),
        "first-ifd-0": b"II*\0" + bytes(100),
        "first-ifd-past-end": b"II*\0\xff\xff\xff\x7f" + bytes(100),
        "ifd-no-tags": b"II*\0\x08\0\0\0\0\0\0\0\0\0",
        "ifd-65535-tags": b"II*\0\x08\0\0\0\xff\xff" + bytes(100),
        "sub-ifd-loop": tiff({SUB_IFDS: longs(at)}),
        "sub-ifd-past-end": tiff({SUB_IFDS: longs(0xFFFFFF00)}),
        "100000-pages": pages(100_000),
        "bigtiff-past-end": b"II+\0\x08\0\0\0" + struct.pack("<Q", 1 << 62),
        "bigtiff-2-63-tags": b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 1 << 63) + bytes(64),
        "bigtiff-bad-offset-size": b"II+\0\x04\0\0\0" + bytes(64),
        "big-endian-header-little-body": b"MM" + valid[2:],
    }


def _types() -> dict[str, bytes]:
    found = {
        "strip-offset-past-end": tiff({OFFSETS: longs(0x7FFFFFFF)}),
        "strip-count-2-32": tiff({COUNTS: longs(0xFFFFFFFF)}),
        "strip-count-0": tiff({COUNTS: longs(0)}),
        "no-offsets": tiff({OFFSETS: None}),
        "no-counts": tiff({COUNTS: None}),
        "no-width": tiff({WIDTH: None}),
        "offsets-as-text": tiff({OFFSETS: text(b"eight")}),
        "width-as-nan": tiff({WIDTH: (DOUBLE, struct.pack("<d", float("nan")))}),
        "width-as-rational": tiff({WIDTH: (RATIONAL, struct.pack("<II", 32, 0))}),
        "unknown-type": tiff({WIDTH: (99, bytes(4))}),
        "resolution-0-by-0": tiff({282: (RATIONAL, bytes(8)), 283: (RATIONAL, bytes(8))}),
        "samples-3": tiff({SAMPLES: shorts(3), PHOTOMETRIC: shorts(2), BITS: shorts(8, 8, 8)}),
        "samples-65535": tiff({SAMPLES: shorts(65535)}),
        "planar-2": tiff({PLANAR: shorts(2), SAMPLES: shorts(2), BITS: shorts(8, 8)}),
        "predictor-99": compressed(8, zlib.compress(bytes(range(256)) * 4), 32)
        and tiff({COMPRESSION: shorts(8), PREDICTOR: shorts(99)}, zlib.compress(bytes(range(256)) * 4)),
        "float-predictor-on-bytes": tiff(
            {COMPRESSION: shorts(8), PREDICTOR: shorts(3)}, zlib.compress(bytes(range(256)) * 4)
        ),
        "jpeg-tables-garbage": tiff({COMPRESSION: shorts(7), JPEG_TABLES: (7, bytes(100))}),
        "complex": tiff({BITS: shorts(64), SAMPLE_FORMAT: shorts(6)}, bytes(8192)),
        "nan": tiff({BITS: shorts(32), SAMPLE_FORMAT: shorts(3)}, np.full(1024, np.nan, "<f4").tobytes()),
        "inf": tiff({BITS: shorts(32), SAMPLE_FORMAT: shorts(3)}, np.full(1024, np.inf, "<f4").tobytes()),
        "constant": tiff(data=bytes(1024)),
        "description-10-mb": tiff({DESCRIPTION: text(b"ImageJ=1\n" + b"a" * 10_000_000)}),
    }
    for bits in (0, 1, 3, 12, 24, 128, 65535):
        found[f"bits-{bits}"] = tiff({BITS: shorts(bits)})
    for photometric in (2, 5, 6, 8, 32803, 65535):
        found[f"photometric-{photometric}"] = tiff({PHOTOMETRIC: shorts(photometric)})
    return found


def _truncations() -> dict[str, bytes]:
    whole = compressed(8, zlib.compress(np.random.default_rng(0).bytes(1024)), 32)
    at = struct.unpack("<I", whole[4:8])[0]
    cuts = (1, 2, 4, 7, 8, 9, at // 2, at, at + 1, at + 2, at + 7, at + 14, len(whole) - 5, len(whole) - 1)
    return {f"truncated-at-{cut}": whole[:cut] for cut in cuts}


def _ome() -> dict[str, bytes]:
    def ome(body: bytes, head: bytes = b"") -> bytes:
        return tiff({DESCRIPTION: text(b'<?xml version="1.0"?>' + head + body)})

    laughs = b"".join(
        b'<!ENTITY a%d "%s">' % (level, b"&a%d;" % (level - 1) * 10 if level else b"ha" * 50) for level in range(10)
    )
    pixels = b'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Pixels %s/></Image></OME>'
    size = b'DimensionOrder="XYZCT" Type="uint8" SizeX="32" SizeY="32" SizeC="1" SizeT="1" SizeZ="%s"'
    return {
        "ome-entity-bomb": ome(b"<OME>&a9;</OME>", b"<!DOCTYPE OME [" + laughs + b"]>"),
        "ome-external-entity": ome(b"<OME>&x;</OME>", b'<!DOCTYPE OME [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
        "ome-2-31-slices": ome(pixels % (size % b"2147483647")),
        "ome-negative-slices": ome(pixels % (size % b"-1")),
        "ome-no-number": ome(pixels % (size % b"many")),
        "ome-deep": ome(b"<OME>" + b"<a>" * 50_000 + b"</a>" * 50_000 + b"</OME>"),
        "ome-cut": ome((pixels % (size % b"1"))[:60]),
    }


def npy_header(header: bytes, version: bytes = b"\x01\0") -> bytes:
    length = struct.pack("<H", len(header)) if version[0] == 1 else struct.pack("<I", len(header))
    return b"\x93NUMPY" + version + length + header


def _npy() -> dict[str, bytes]:
    def array(descr: str, shape: str, data: bytes, order: str = "False") -> bytes:
        header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
        return npy_header(header) + data

    objects = io.BytesIO()
    np.save(objects, np.array([[{}, "a"]], dtype=object), allow_pickle=True)
    some = bytes(range(256)) * 4
    return {
        "npy-objects": objects.getvalue(),
        "npy-2-62-voxels": array("'|u1'", "(2147483648, 2147483648, 1)", some),
        "npy-negative": array("'|u1'", "(-1, 32, 32)", some),
        "npy-too-few-bytes": array("'|u1'", "(2, 32, 32)", some),
        "npy-too-many-bytes": array("'|u1'", "(1, 16, 32)", some),
        "npy-0-slices": array("'|u1'", "(0, 32, 32)", b""),
        "npy-0-d": array("'|u1'", "()", b"1"),
        "npy-4-d": array("'|u1'", "(1, 1, 32, 32)", some),
        "npy-complex": array("'<c16'", "(1, 8, 8)", some),
        "npy-text": array("'<U8'", "(1, 4, 8)", some),
        "npy-struct": array("[('a', '|u1'), ('b', '|u1')]", "(1, 16, 32)", some),
        "npy-dates": array("'<M8[s]'", "(1, 16, 8)", some),
        "npy-void": array("'|V4'", "(1, 16, 16)", some),
        "npy-no-type": array("'nonsense'", "(1, 32, 32)", some),
        "npy-code": array("__import__('os').system('true')", "(1, 32, 32)", some),
        "npy-nested": npy_header(b"(" * 20_000 + b")" * 20_000),
        "npy-header-2-32": b"\x93NUMPY\x02\0\xff\xff\xff\xff{",
        "npy-header-cut": b"\x93NUMPY\x01\0\x76\0{'descr'",
        "npy-version-9": npy_header(b"{}", b"\x09\0"),
        "npy-nan": array("'<f4'", "(1, 16, 16)", np.full(256, np.nan, "<f4").tobytes()),
        "npy-shape-of-text": array("'|u1'", "('a', 'b', 'c')", some),
        "npy-shape-of-floats": array("'|u1'", "(1.5, 32, 32)", some),
        "npy-shape-true": array("'|u1'", "(True, 32, 32)", some),
    }


def zip_of(entries: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file.getvalue()


def archives() -> dict[str, bytes]:
    """Zips, for the reader of ROI sets too."""
    zeros = bytes(64 << 20)
    bomb = zip_of({"a.roi": zeros})
    encrypted = bytearray(zip_of({"a.roi": b"Iout" + bytes(60)}))
    for mark, where in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = encrypted.find(mark) + where
        encrypted[at] |= 1
    many = zip_of({f"{index}.roi": b"Iout" for index in range(20_000)})
    return {
        "zip-bomb": bomb,
        "zip-nested": zip_of({"b.zip": bomb}),
        "zip-slip": zip_of({"../../../../tmp/evil.roi": b"Iout" + bytes(60)}),
        "zip-absolute": zip_of({"/etc/cron.d/evil.roi": b"Iout" + bytes(60)}),
        "zip-encrypted": bytes(encrypted),
        "zip-20000-entries": many,
        "zip-cut": bomb[: len(bomb) // 2],
        "zip-empty": zip_of({}),
        "zip-no-roi": zip_of({"readme.txt": b"hello"}),
        "zip-garbage-roi": zip_of({"a.roi": b"\xff" * 100}),
    }


def _others() -> dict[str, bytes]:
    return {
        "one-byte": b"I",
        "text": b"GET / HTTP/1.1\r\n\r\n",
        "png": b"\x89PNG\r\n\x1a\n" + bytes(60),
        "gzip-of-tiff": zlib.compress(tiff(), wbits=31),
        "zeros": bytes(100_000),
        "ff": b"\xff" * 100_000,
        "pickle": b"\x80\x04\x95" + bytes(60),
    }


def files() -> dict[str, bytes]:
    """All of them."""
    parts = (_dimensions, _bombs, _chains, _types, _truncations, _ome, _npy, archives, _others)
    return {name: data for part in parts for name, data in part().items()}
