"""Image files made to do harm, and small good ones to mutate."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from uae.data.untrusted.file import Reason

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", len(data), name) + data + struct.pack(">I", zlib.crc32(name + data))


def png_file(
    size: tuple[int, int], depth: int, color: int, rows: bytes, *extra: tuple[bytes, bytes]
) -> bytes:
    """Build a PNG from filtered rows; `extra` chunks go before the picture data."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, color, 0, 0, 0))
    chunks = [png_chunk(*chunk) for chunk in extra]
    pixels = png_chunk(b"IDAT", zlib.compress(rows, 9))
    return _PNG_SIGNATURE + header + b"".join([*chunks, pixels]) + png_chunk(b"IEND", b"")


def gray_jpeg(width: int, height: int) -> bytes:
    """Build a uniform colour JPEG of any size, four bytes to each 16 x 16 pixels."""
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (128, 128, 128)).save(stream, "JPEG", subsampling="4:2:0")
    data = bytearray(stream.getvalue())
    frame = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, frame + 5, height, width)
    scan = data.index(b"\xff\xda")
    # six codes "no difference, end of block": 00 1010 four times for luma, 00 00 twice for chroma
    num_blocks = -(-width // 16) * -(-height // 16)
    return bytes(data[: scan + 14]) + b"\x28\xa2\x8a\x00" * num_blocks + b"\xff\xd9"


def bombs() -> dict[str, tuple[Reason, bytes]]:
    """Return files that must be refused, by name, with the reason expected."""
    side = 13_350  # 178 megapixels in one bit each
    webp_canvas = b"".join((size - 1).to_bytes(3, "little") for size in (31_623, 31_623))
    webp = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + webp_canvas
    lossless = ((16_384 - 1) | (16_384 - 1) << 14).to_bytes(4, "little")
    webp_lossless = b"WEBPVP8L" + struct.pack("<I", 6) + b"\x2f" + lossless + bytes(9)
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 256, 4, 1, 40_000) + bytes(4)
    fits = b"SIMPLE  =                    T" + b" " * 50 + b"NAXIS1  =                40000"
    many, unsupported = Reason.TOO_MANY_PIXELS, Reason.UNSUPPORTED_FORMAT
    return {
        "PNG of 178 MP": (many, png_file((side, side), 1, 0, bytes((1 + -(-side // 8)) * side))),
        "PNG header of 1e9 px": (many, png_file((31_623, 31_623), 8, 2, b"")),
        "JPEG of 400 MP": (many, gray_jpeg(20_000, 20_000)),
        "JPEG header of 1e9 px": (many, gray_jpeg(31_623, 31_623)[:1024]),
        "WebP canvas of 1e9 px": (many, b"RIFF" + struct.pack("<I", len(webp)) + webp),
        "lossless WebP of 268 MP": (
            many, b"RIFF" + struct.pack("<I", len(webp_lossless)) + webp_lossless,
        ),
        "strip of 1 x 40,000,000": (Reason.EXTREME_ASPECT, png_file((1, 40_000_000), 1, 0, b"")),
        "file of 65 MiB": (Reason.TOO_LARGE_FILE, png_file((8, 8), 8, 0, b"") + bytes(65 * 2**20)),
        "GIF": (unsupported, b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + bytes(64)),
        "ICO": (unsupported, b"\0\0\1\0\1\0" + bytes(64)),
        "TIFF": (unsupported, tiff),
        "FITS": (unsupported, fits),
        "JPEG of a million segments": (
            Reason.DAMAGED, b"\xff\xd8" + b"\xff\xe0\0\2" * 1_000_000,
        ),
        "PNG of a million chunks": (
            Reason.DAMAGED, png_file((8, 8), 8, 0, b"")[:33] + png_chunk(b"tEXt", b"") * 1_000_000,
        ),
    }  # fmt: skip


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def seed_files(size: tuple[int, int] = (37, 29)) -> list[bytes]:
    """Return small good files of every kind that is accepted."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    picture = Image.fromarray(noise, "RGBA").resize(size, Image.Resampling.BICUBIC)
    files = []

    def save(mode: str, kind: str, **options: Any) -> None:
        stream = io.BytesIO()
        picture.convert(mode).save(stream, kind, **options)
        files.append(stream.getvalue())

    for mode in ("L", "RGB", "CMYK"):
        save(mode, "JPEG", quality=80)
        save(mode, "JPEG", quality=90, progressive=True, exif=_exif(6))
        save(mode, "JPEG", quality=60, restart_marker_blocks=2, comment=b"hello")
    for mode in ("1", "L", "P", "LA", "RGB", "RGBA"):
        save(mode, "PNG", exif=_exif(8))
    gray16 = np.asarray(picture.convert("L"), dtype=np.uint16) * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in gray16)
    files.append(png_file(size, 16, 0, rows, (b"tEXt", b"Comment\0hello")))
    save("P", "PNG", transparency=3)
    save("RGB", "PNG", save_all=True, append_images=[picture.convert("RGB").rotate(90)])
    for mode in ("RGB", "RGBA"):
        save(mode, "WEBP", quality=70)
        save(mode, "WEBP", lossless=True, exif=_exif(3))
        save(mode, "WEBP", save_all=True, append_images=[picture.convert(mode).rotate(90)])
    return files


def mutated(files: list[bytes], index: int, seed: int = 0) -> bytes:
    """Return mutated file `index`, a pure function of the arguments."""
    rng = np.random.default_rng([seed, index])
    data = bytearray(files[rng.integers(len(files))])
    for _ in range(1 + rng.geometric(0.4)):
        data = _mutate(data, files, rng)
    if rng.random() < 0.7:  # past the checksums, to the decoders
        data = _repair(data)
    return bytes(data)


def _mutate(data: bytearray, files: list[bytes], rng: np.random.Generator) -> bytearray:
    place = int(rng.integers(len(data) + 1))
    length = min(int(rng.geometric(0.05)), 200)
    kind = rng.integers(8)
    if kind == 0 and data:
        data[min(place, len(data) - 1)] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        data[place : place + 1] = rng.bytes(1)
    elif kind == 2:
        number = _INTERESTING[rng.integers(len(_INTERESTING))]
        order = "big" if rng.random() < 0.5 else "little"
        num_bytes = max(int(rng.choice([1, 2, 4])), (number.bit_length() + 7) // 8)
        data[place : place + num_bytes] = number.to_bytes(num_bytes, order)
    elif kind == 3:
        del data[place : place + length]
    elif kind == 4:
        data[place:place] = data[place : place + length]
    elif kind == 5:
        data[place:place] = rng.bytes(length)
    elif kind == 6 and rng.random() < 0.5:
        del data[place:]
    elif kind == 7 and rng.random() < 0.5:
        other = files[rng.integers(len(files))]
        data[place:] = other[int(rng.integers(len(other))) :]
    return data


def _repair(data: bytearray) -> bytearray:
    """Write the right checksums and lengths into a PNG or WebP, as an attacker would."""
    if data.startswith(b"RIFF"):
        data[4:8] = struct.pack("<I", max(len(data) - 8, 0))
    if not data.startswith(_PNG_SIGNATURE):
        return data
    place = len(_PNG_SIGNATURE)
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4])
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[place + 4 : end]))
        place = end + 4
    return data
