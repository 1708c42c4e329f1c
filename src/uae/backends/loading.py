"""Loads the networks that judge images, with errors that name the flag they were given by."""

import torch

from uae.backends.local_vlm import LocalVlm
from uae.core.device import device_of
from uae.core.errors import EnvironmentFault, UsageError
from uae.models.hub import found

_VIDEO_PACKAGE = "torchvision"
"""What transformers asks for by a ValueError, for processors that take videos too."""


def load_vlm(
    flag: str, shown: str, name: str, device: str, dtype: torch.dtype, revision: str = "main"
) -> LocalVlm:
    """Load a vision-language model of transformers.

    Args:
        flag: By which it was given.
        shown: As it was given.
        name: Folder, preset or hub id.
        device: As the command has it.
        dtype: Of its weights.
        revision: Of a hub id.

    Raises:
        UsageError: There is none, or it is another kind of model.
        EnvironmentFault: Its processor needs a package that is not installed.
    """
    try:
        with found(flag, shown):
            return LocalVlm.from_pretrained(name, device_of(device), dtype, revision)
    except UsageError:
        raise
    except (ImportError, ValueError) as error:
        if isinstance(error, ImportError) or _VIDEO_PACKAGE in str(error):
            raise EnvironmentFault(
                f"{flag} {shown} needs a package that is not installed: {error}"
            ) from error
        # transformers' word for another kind of model
        raise UsageError(f"{flag} {shown} is no vision-language model: {error}") from error
