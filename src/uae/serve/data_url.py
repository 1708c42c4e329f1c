"""Images in a request: data: URLs in base64. Nothing is fetched, and nothing in them is trusted."""

import base64
import binascii
import io
from pathlib import Path

from PIL import Image

from uae.data.opening import read_image
from uae.serve.errors import ApiError, blaming
from uae.serve.fields import shown

MAX_ASPECT = 200  # Qwen2.5-VL's own limit, as in `data/questions_file.py`


def open_data_url(url: str, param: str) -> Image.Image:
    """Return the image of a URL as upright RGB; its format is told by content.

    Args:
        url: data:...;base64,...
        param: The field, for errors.

    Raises:
        ApiError: 400: another kind of URL, no base64, or no image that we open.
    """
    head, comma, data = url.partition(",")
    scheme, _, parameters = head.partition(":")
    if scheme.lower() != "data":
        raise ApiError(
            400,
            f"{param} {shown(url)}: this server fetches nothing: send the image itself as "
            "data:image/png;base64,...",
            param=param,
            code="invalid_image_url",
        )
    if not comma or parameters.lower().split(";")[-1] != "base64":
        message = f"{param} {shown(url)}: expected data:image/png;base64,..."
        raise ApiError(400, message, param=param, code="invalid_image_url")
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        message = f"{param} {shown(url)}: its data is not base64: {error}"
        raise ApiError(400, message, param=param, code="invalid_base64_image") from error
    with blaming(param, "invalid_image"):
        return read_image(io.BytesIO(content), Path(param), MAX_ASPECT)
