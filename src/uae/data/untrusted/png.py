"""PNG (W3C PNG third edition, sections 5 to 8): checksums, and pixels enough for the whole picture.

Pillow checks no CRC of picture data, so damaged data can come back as a damaged picture; and where
the compressed data ends well but too early, it leaves the missing rows black.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from uae.data.untrusted import exif
from uae.data.untrusted.file import Container, Reason, UntrustedFile

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_MAX_CHUNKS = 20_000  # 64 MiB in chunks of 4 KiB are 16,384
_MAX_EXIF_BYTES = 2**16
_PIECE_BYTES = 2**16
_GREY, _RGB, _PALETTE = 0, 2, 3
_NUM_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, 4: 2, 6: 4}
_ADAM7 = (  # (left, top, step across, step down) of each pass
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_GREY_STEP = {1: 1, 2: 85, 4: 17, 8: 1}  # from a sample to 8 bits; Pillow scales 1 bit itself


@dataclass(slots=True)
class _Chunks:
    header: bytes = b""
    palette: bytes = b""
    transparency: bytes = b""
    exif: bytes = b""
    pixels: list[bytes] = field(default_factory=list)


def walk(file: UntrustedFile) -> Container:
    """Check a PNG and return its first frame alone, in one chunk of picture data."""
    file.read(len(SIGNATURE))
    chunks = _Chunks(header=_header(file))
    width, height, depth, color = struct.unpack_from(">IIBB", chunks.header)
    file.check_bytes()
    _read_chunks(file, chunks)
    _check_rows(file, chunks)
    rebuilt = [SIGNATURE, _chunk(b"IHDR", chunks.header)]
    if color == _PALETTE:
        rebuilt.append(_chunk(b"PLTE", chunks.palette))
    if transparency := _transparency(chunks.transparency, depth, color):
        rebuilt.append(_chunk(b"tRNS", transparency))
    rebuilt += [_chunk(b"IDAT", b"".join(chunks.pixels)), _chunk(b"IEND", b"")]
    return Container("PNG", (width, height), exif.orientation(chunks.exif), b"".join(rebuilt))


def _header(file: UntrustedFile) -> bytes:
    length, name = struct.unpack(">I4s", file.read(8))
    if name != b"IHDR" or length != 13:
        raise file.fault(Reason.DAMAGED, "its PNG header is malformed")
    header = file.read(length)
    width, height = struct.unpack_from(">II", header)
    file.check_size(width, height)
    _check_crc(file, name, header)
    return header


def _read_chunks(file: UntrustedFile, chunks: _Chunks) -> None:
    for _ in range(_MAX_CHUNKS):
        length, name = struct.unpack(">I4s", file.read(8))
        if name in (b"IDAT", b"PLTE", b"tRNS"):
            data = file.read(length)
            _check_crc(file, name, data)
            if name == b"IDAT":
                chunks.pixels.append(data)
            elif name == b"PLTE":
                chunks.palette = data
            else:
                chunks.transparency = data
        elif name == b"eXIf" and length <= _MAX_EXIF_BYTES:
            chunks.exif = file.read(length)
            file.skip(4)
        elif name == b"IEND":
            file.skip(length + 4)
            return
        elif name[:1].islower():  # ancillary: text, profiles, times, the further frames of an APNG
            file.skip(length + 4)
        else:
            raise file.fault(Reason.DAMAGED, "a PNG chunk of unknown kind")
    raise file.fault(Reason.DAMAGED, f"more than {_MAX_CHUNKS:,} PNG chunks")


def _check_crc(file: UntrustedFile, name: bytes, data: bytes) -> None:
    if int.from_bytes(file.read(4)) != zlib.crc32(data, zlib.crc32(name)):
        raise file.fault(Reason.DAMAGED, f"the checksum of its {name.decode()} data is wrong")


def _check_rows(file: UntrustedFile, chunks: _Chunks) -> None:
    """Raise if the data inflates to less than the picture takes; more is not looked at."""
    missing = _num_filtered_bytes(chunks.header)
    inflater = zlib.decompressobj()
    for data in _pieces(chunks.pixels):
        try:
            missing -= len(inflater.decompress(data, _PIECE_BYTES))
            while inflater.unconsumed_tail and missing > 0:
                missing -= len(inflater.decompress(inflater.unconsumed_tail, _PIECE_BYTES))
        except zlib.error:
            raise file.fault(Reason.DAMAGED, "its pixels cannot be inflated") from None
        if missing <= 0:
            return
    raise file.fault(Reason.TRUNCATED, f"{missing:,} bytes of its pixels are missing")


def _pieces(chunks: list[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), _PIECE_BYTES):
            yield chunk[start : start + _PIECE_BYTES]


def _num_filtered_bytes(header: bytes) -> int:
    """Return the length of all rows, each with its filter type, before compression."""
    width, height, depth, color, _, _, interlace = struct.unpack(">IIBBBBB", header)
    bits = depth * _NUM_CHANNELS.get(color, 1)
    total = 0
    for left, top, across, down in _ADAM7 if interlace else [(0, 0, 1, 1)]:
        num_columns, num_rows = -(-(width - left) // across), -(-(height - top) // down)
        if num_columns > 0:  # a pass without columns has no rows
            total += max(num_rows, 0) * (1 + -(-num_columns * bits // 8))
    return total


def _transparency(data: bytes, depth: int, color: int) -> bytes:
    """Return a tRNS chunk that Pillow applies rightly, empty for none.

    Pillow compares the transparent grey of a 2- or 4-bit picture with samples that it has scaled
    to 8 bits. Of 16-bit pictures it keeps the upper byte, which does not tell the transparent ones.
    """
    if color == _PALETTE:
        return data[:256]
    if color == _GREY and depth in _GREY_STEP and len(data) == 2:
        return struct.pack(">H", int.from_bytes(data) % 2**depth * _GREY_STEP[depth])
    if color == _RGB and depth == 8 and len(data) == 6:
        return data
    return b""


def _chunk(name: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(data, zlib.crc32(name))
    return struct.pack(">I4s", len(data), name) + data + crc.to_bytes(4)
