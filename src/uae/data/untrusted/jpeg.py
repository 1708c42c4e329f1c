"""JPEG (ITU-T T.81 annex B): segments up to the first scan, then the scans.

libjpeg fills what is missing with grey and only warns, and Pillow does not pass the warning on: a
picture cut short but closed by an end marker comes back half grey. So the end marker of a
sequential picture is replaced by padding as wide as libjpeg's bit buffer. Complete data decodes to
the same pixels; incomplete data leaves the decoder waiting for more, and Pillow then raises. A
picture of several scans needs its marker.

What has more pixels than we hold is decoded at half its size or less, as libjpeg can from the same
data. That saves pixels, but no coefficients: of a picture of several scans, a progressive one say,
libjpeg holds all of them in full size, so these have a limit of their own.
"""

import re
import struct
from dataclasses import dataclass

from uae.data.untrusted import exif
from uae.data.untrusted.file import (
    MAX_JPEG_BYTES,
    MAX_JPEG_PIXELS,
    MAX_PIXELS,
    Container,
    Reason,
    UntrustedFile,
)

_MAX_SEGMENTS = 4096  # a photo has about 10, with large embedded profiles some hundreds
_MAX_KEPT_BYTES = 2**20
_MAX_SCANNED_PIXELS = 10 * MAX_JPEG_PIXELS  # a usual progressive picture has 10 scans
_MAX_COEFFICIENT_BYTES = 640 * 2**20  # of 201 megapixels with halved colours
_MAX_EXIF_BYTES = 2**20
_REDUCTIONS = (1, 2, 4, 8)

_EOI, _SOS, _DRI, _APP1 = 0xD9, 0xDA, 0xDD, 0xE1
_TABLES = {0xC4, 0xCC, 0xDB, _DRI, 0xE0, 0xEE}  # with JFIF and Adobe, which decide on the colours
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_DECODED_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # sequential, progressive; Huffman, arithmetic
_SEQUENTIAL_HUFFMAN = {0xC0, 0xC1}
_KEPT = _TABLES | _FRAMES | {_SOS}
_READ = _KEPT | {_APP1}

_MARKER = re.compile(rb"\xff([\x01-\xfe])")
_END_OF_SCAN = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")  # restart markers are inside a scan
_END_OF_SCAN_WITHOUT_RESTARTS = re.compile(rb"\xff([^\x00\xff])")
_PADDING = bytes(8)


@dataclass(slots=True)
class _Head:
    """The part of a file before its first scan."""

    kept: bytearray
    frame: int = 0
    size: tuple[int, int] = (0, 0)
    num_components: int = 0
    num_coefficient_bytes: int = 0
    has_restarts: bool = False
    exif: bytes = b""


def walk(file: UntrustedFile) -> Container:
    """Check a JPEG and return it with its first picture alone."""
    head = _Head(bytearray(file.read(2)))
    for _ in range(_MAX_SEGMENTS):
        marker, payload = _next_segment(file)
        if marker in _KEPT:
            head.kept += struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload
        if marker in _FRAMES:
            _read_frame(file, head, marker, payload)
        elif marker == _DRI:
            head.has_restarts = payload != b"\0\0"
        elif marker == _APP1 and payload.startswith(b"Exif\0\0"):
            # one that is too long for a segment goes on in the next: read as one, as in Pillow
            head.exif += payload.removeprefix(b"Exif\0\0") if head.exif else payload
        elif marker == _SOS:
            data = bytes(head.kept) + _scans(file, head, payload)
            turn = exif.orientation(head.exif)
            return Container("JPEG", head.size, turn, data, _reduction(*head.size))
        if len(head.kept) > _MAX_KEPT_BYTES or len(head.exif) > _MAX_EXIF_BYTES:
            raise file.fault(Reason.DAMAGED, "its tables are larger than a picture needs")
    raise file.fault(Reason.DAMAGED, f"more than {_MAX_SEGMENTS} segments before the picture")


def _next_segment(file: UntrustedFile) -> tuple[int, bytes]:
    """Return marker and payload, the latter empty for segments that nobody needs."""
    start = file.stream.tell()
    found = _MARKER.search(file.stream.read(64))  # cameras leave a few stray bytes between segments
    if found is None:
        reason = Reason.TRUNCATED if start + 64 > file.num_bytes else Reason.DAMAGED
        raise file.fault(reason, f"no JPEG segment at byte {start:,}")
    file.stream.seek(start + found.end())
    marker = found[1][0]
    if marker == _EOI:
        raise file.fault(Reason.DAMAGED, "it ends before the picture begins")
    length = int.from_bytes(file.read(2)) - 2
    if length < 0:
        raise file.fault(Reason.DAMAGED, f"a JPEG segment of impossible length at byte {start:,}")
    if marker in _READ:
        return marker, file.read(length)
    file.skip(length)
    return marker, b""


def _read_frame(file: UntrustedFile, head: _Head, marker: int, payload: bytes) -> None:
    if head.frame or len(payload) < 6 or len(payload) != 6 + 3 * payload[5]:
        raise file.fault(Reason.DAMAGED, "its JPEG frame header is malformed")
    precision, height, width, num_components = struct.unpack_from(">BHHB", payload)
    file.check_size(width, height, MAX_JPEG_PIXELS)
    if marker not in _DECODED_FRAMES or precision != 8 or num_components not in (1, 3, 4):
        kind = f"process SOF{marker - 0xC0}, {precision} bits, {num_components} components"
        detail = f"JPEG with {kind}; expected 8 bits, sequential or progressive"
        raise file.fault(Reason.UNSUPPORTED_FORMAT, detail)
    head.frame, head.size, head.num_components = marker, (width, height), num_components
    head.num_coefficient_bytes = _num_coefficient_bytes(width, height, payload[7::3])


def _num_coefficient_bytes(width: int, height: int, samplings: bytes) -> int:
    """Return what the coefficients of the whole picture take, two bytes each in blocks of 64.

    Args:
        width: In pixels.
        height: In pixels.
        samplings: Of each component the samples across and down, a half byte each.
    """
    across, down = [byte >> 4 for byte in samplings], [byte & 15 for byte in samplings]
    columns, rows = -(-width // (8 * max(*across, 1))), -(-height // (8 * max(*down, 1)))
    return 128 * columns * rows * sum(a * d for a, d in zip(across, down, strict=True))


def _reduction(width: int, height: int) -> int:
    """Return how often smaller than stored a side must be, for the picture to fit into memory."""
    return next(r for r in _REDUCTIONS if -(-width // r) * -(-height // r) <= MAX_PIXELS)


def _scans(file: UntrustedFile, head: _Head, scan_header: bytes) -> bytes:
    """Return all that follows the first scan's header, as the decoder is to see it."""
    if not head.frame or not scan_header:
        raise file.fault(Reason.DAMAGED, "its JPEG frame header is missing")
    file.check_bytes(MAX_JPEG_BYTES)
    data = file.stream.read()
    if head.frame in _SEQUENTIAL_HUFFMAN and scan_header[0] == head.num_components:
        pattern = _END_OF_SCAN if head.has_restarts else _END_OF_SCAN_WITHOUT_RESTARTS
        end = pattern.search(data)
        if end is None:
            raise file.fault(Reason.TRUNCATED, "its end marker is missing")
        return data[: end.start()].rstrip(b"\xff") + _PADDING
    if head.num_coefficient_bytes > _MAX_COEFFICIENT_BYTES:
        detail = (
            f"{head.size[0]} x {head.size[1]} pixels in several scans take "
            f"{head.num_coefficient_bytes / 2**20:,.0f} MiB to decode, at most "
            f"{_MAX_COEFFICIENT_BYTES // 2**20} allowed: save it as a baseline JPEG"
        )
        raise file.fault(Reason.TOO_MANY_PIXELS, detail)
    return data[: _end_of_picture(file, head, data)]


def _end_of_picture(file: UntrustedFile, head: _Head, data: bytes) -> int:
    """Return where the end marker of a picture of several scans ends, counting the scans."""
    num_pixels, num_scans, position = head.size[0] * head.size[1], 1, 0
    for _ in range(_MAX_SEGMENTS):
        found = _END_OF_SCAN.search(data, position)
        if found is None:
            raise file.fault(Reason.TRUNCATED, "its end marker is missing")
        marker = found[1][0]
        if marker == _EOI:
            return found.end()
        num_scans += marker == _SOS
        if num_scans * num_pixels > _MAX_SCANNED_PIXELS:
            detail = f"{num_pixels / 1e6:,.1f} megapixels in {num_scans} or more scans"
            raise file.fault(Reason.TOO_MANY_PIXELS, detail)
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    raise file.fault(Reason.DAMAGED, f"more than {_MAX_SEGMENTS} JPEG segments")
