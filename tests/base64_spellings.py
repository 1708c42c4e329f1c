"""An image in base64, in all the ways in which browsers, mail programs and scripts write it."""

import base64
import io
from urllib.parse import quote

import numpy as np
from PIL import Image

SIZE = (7, 5)
_BYTES = (np.arange(7 * 5 * 3) * 37 % 256).reshape(5, 7, 3).astype(np.uint8)
HEAD = "data:image/png;base64,"


def _png() -> bytes:
    """A PNG whose base64 holds both digits that URLs write otherwise, and padding."""
    for end in range(256):
        stream = io.BytesIO()
        image = Image.fromarray(_BYTES)
        image.putpixel((0, 0), (end, 0, 0))
        image.save(stream, "PNG")
        text = base64.b64encode(stream.getvalue()).decode()
        if {"+", "/"} <= set(text) and len(stream.getvalue()) % 3:
            return stream.getvalue()
    raise AssertionError("no such PNG")


PNG = _png()
PLAIN = base64.b64encode(PNG).decode()
BARE = {
    "plain": PLAIN,
    "lines of 76": base64.encodebytes(PNG).decode(),
    "lines of Windows": base64.encodebytes(PNG).decode().replace("\n", "\r\n"),
    "newline at the end": PLAIN + "\n",
    "blanks and tabs": " \t" + "\t ".join(PLAIN) + " ",
    "alphabet of URLs": base64.urlsafe_b64encode(PNG).decode(),
    "no padding": PLAIN.rstrip("="),
    "alphabet of URLs, no padding": base64.urlsafe_b64encode(PNG).decode().rstrip("="),
    "percent signs": quote(PLAIN, safe=""),
    "percent signs and lines": quote(base64.encodebytes(PNG).decode(), safe=""),
}
URLS = {
    **{name: HEAD + text for name, text in BARE.items()},
    "upper case": f"DATA:IMAGE/PNG;BASE64,{PLAIN}",
    "parameters": f"data:image/png;charset=utf-8;base64,{PLAIN}",
    "a file name": f"data:image/png;name=a%20b.png;base64,{PLAIN}",
    "no type": f"data:;base64,{PLAIN}",
    "another type": f"data:application/octet-stream;base64,{PLAIN}",
    "blanks around": f" data:image/png; base64,{PLAIN} ",
}
