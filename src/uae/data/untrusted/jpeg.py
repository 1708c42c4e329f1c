"""JPEG (ITU-T T.81 annex B): segments up to the first scan, then the scans.

libjpeg fills what is missing with grey and only warns, and Pillow does not pass the warning on: a
picture cut short but closed by an end marker comes back half grey. So the end marker of a
sequential picture is replaced by padding as wide as libjpeg's bit buffer. Complete data decodes to
the same pixels; incomplete data leaves the decoder waiting for more, and Pillow then raises. A
picture of several scans needs its marker.
"""

import re
import struct
from dataclasses import dataclass

from uae.data.untrusted import exif
from uae.data.untrusted.file import MAX_PIXELS, Container, Reason, UntrustedFile

_MAX_SEGMENTS = 4096  # a photo has about 10, with large embedded profiles some hundreds
_MAX_KEPT_BYTES = 2**20
_MAX_SCANNED_PIXELS = 20 * MAX_PIXELS  # a usual progressive picture has 10 scans

_EOI, _SOS, _DRI, _APP1 = 0xD9, 0xDA, 0xDD, 0xE1
_TABLES = {0xC4, 0xCC, 0xDB, _DRI, 0xE0, 0xEE}  # with JFIF and Adobe, which decide on the colours
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_DECODED_FRAMES = {
    0xC0,
    0xC1,
    0xC2,
    0xC9,
    0xCA,
}  # sequential, progressive; Huffman, arithmetic
_SEQUENTIAL_HUFFMAN = {0xC0, 0xC1}

_MARKER = re.compile(rb"\xff([\x01-\xfe])")
_END_OF_SCAN = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")  # restart markers are inside a scan
_END_OF_SCAN_WITHOUT_RESTARTS = re.compile(rb"\xff([^\x00\xff])")
_PADDING = bytes(8)


@dataclass(slots=True)
class _Head:
    """What comes before the first scan."""

    kept: bytearray
    frame: int = 0
    size: tuple[int, int] = (0, 0)
    num_components: int = 0
    has_restarts: bool = False
    orientation: int = 1


def walk(file: UntrustedFile) -> Container:
    """Check a JPEG and return it with its first picture alone."""
    head = _Head(bytearray(file.read(2)))
    for _ in range(_MAX_SEGMENTS):
        marker, payload = _next_segment(file)
        if marker in _TABLES | _FRAMES | {_SOS}:
            head.kept += struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload
        if marker in _FRAMES:
            _read_frame(file, head, marker, payload)
        elif marker == _DRI:
            head.has_restarts = payload != b"\0\0"
        elif marker == _APP1 and payload.startswith(b"Exif\0\0"):
            head.orientation = exif.orientation(payload)
        elif marker == _SOS:
            scans = _scans(file, head, payload)
            return Container("JPEG", head.size, head.orientation, bytes(head.kept) + scans)
        if len(head.kept) > _MAX_KEPT_BYTES:
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
    if marker in _TABLES | _FRAMES | {_SOS, _APP1}:
        return marker, file.read(length)
    file.skip(length)
    return marker, b""


def _read_frame(file: UntrustedFile, head: _Head, marker: int, payload: bytes) -> None:
    if head.frame or len(payload) < 6 or len(payload) != 6 + 3 * payload[5]:
        raise file.fault(Reason.DAMAGED, "its JPEG frame header is malformed")
    precision, height, width, num_components = struct.unpack_from(">BHHB", payload)
    file.check_size(width, height)
    if marker not in _DECODED_FRAMES or precision != 8 or num_components not in (1, 3, 4):
        kind = f"process SOF{marker - 0xC0}, {precision} bits, {num_components} components"
        detail = f"JPEG with {kind}; expected 8 bits, sequential or progressive"
        raise file.fault(Reason.UNSUPPORTED_FORMAT, detail)
    head.frame, head.size, head.num_components = marker, (width, height), num_components


def _scans(file: UntrustedFile, head: _Head, scan_header: bytes) -> bytes:
    """Return all that follows the first scan's header, as the decoder is to see it."""
    if not head.frame or not scan_header:
        raise file.fault(Reason.DAMAGED, "its JPEG frame header is missing")
    file.check_bytes()
    data = file.stream.read()
    if head.frame in _SEQUENTIAL_HUFFMAN and scan_header[0] == head.num_components:
        pattern = _END_OF_SCAN if head.has_restarts else _END_OF_SCAN_WITHOUT_RESTARTS
        end = pattern.search(data)
        if end is None:
            raise file.fault(Reason.TRUNCATED, "its end marker is missing")
        return data[: end.start()].rstrip(b"\xff") + _PADDING
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
