"""The one EXIF tag we read (CIPA DC-008, which takes its layout from TIFF 6.0)."""

import struct

_ORIENTATION = 0x0112
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_WHOLE_NUMBERS = {3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}  # TIFF types; it should be a SHORT


def orientation(exif: bytes) -> int:
    """Return the orientation, 1 (upright) to 8; 1 where the tag is absent or the data is damaged.

    Damaged metadata is no reason to refuse a good picture. Of several tags the last holds, as in
    Pillow.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = _BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return 1
    found = 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (num_entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for i in range(num_entries):
            tag, kind, count, data = struct.unpack_from(
                f"{order}HHI4s", tiff, directory + 2 + 12 * i
            )
            if tag == _ORIENTATION and kind in _WHOLE_NUMBERS and count > 0:
                (found,) = struct.unpack_from(order + _WHOLE_NUMBERS[kind], data)
    except struct.error:  # an offset or count that points past the end
        pass
    return found if 1 <= found <= 8 else 1
