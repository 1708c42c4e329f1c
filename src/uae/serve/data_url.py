"""Images in a request: data: URLs in base64. Nothing is fetched, and nothing in them is trusted."""

from PIL import Image

from uae.data.base64_image import NotBase64, is_data_url, open_base64
from uae.data.untrusted.file import UnreadableImage
from uae.serve.errors import ApiError
from uae.serve.fields import shown

MAX_ASPECT = 200  # Qwen2.5-VL's own limit, as in `data/questions.py`


def open_data_url(url: str, param: str) -> Image.Image:
    """Return the image of a URL as upright RGB; its format is told by content.

    Args:
        url: data:...;base64,...
        param: The field, for errors.

    Raises:
        ApiError: 400: another kind of URL, no base64, or no image that we open.
    """
    if not is_data_url(url):
        raise ApiError(
            400,
            f"{param} {shown(url)}: this server fetches nothing: send the image itself as "
            "data:image/png;base64,...",
            param=param,
            code="invalid_image_url",
        )
    try:
        return open_base64(url, param, MAX_ASPECT)
    except UnreadableImage as error:
        code = "invalid_base64_image" if isinstance(error, NotBase64) else "invalid_image"
        raise ApiError(400, str(error), param=param, code=code) from error
