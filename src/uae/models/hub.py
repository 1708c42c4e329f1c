"""Errors of loading a model by folder or hub id, each in one line and of one kind.

The libraries wrap what the hub answered in errors of their own, with several lines of advice; the
cause is looked for behind them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError

from uae.core.errors import EnvironmentFault, UaeError, UsageError
from uae.models.settings import resolve

_REFUSALS: dict[type[Exception], str] = {
    GatedRepoError: "its owners let in whom they choose: ask on its page on the hub, then run "
    "`hf auth login`",
    RepositoryNotFoundError: "there is no such folder and no such model on the hub; a private one "
    "needs `hf auth login`",
    RevisionNotFoundError: "the model on the hub has no such revision",
    RemoteEntryNotFoundError: "the model on the hub lacks a file of its kind",
    HFValidationError: "there is no such folder, and it is no name of a model on the hub",
}
"""Answers that asking again does not change; a kind stands before those that it is one of."""

_SILENCE = (LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError, TimeoutError)


@contextmanager
def found(flag: str, name: str) -> Iterator[None]:
    """Say in one line what a model is not loaded for.

    Args:
        flag: What named it, a flag or a key.
        name: As it was named.

    Raises:
        UsageError: It is not there, not given to everyone, damaged, or of another kind.
        EnvironmentFault: The hub cannot be reached or fails.
    """
    try:
        yield
    except UsageError as error:
        if flag in str(error):
            raise
        raise UsageError(f"{flag} {name}: {error}") from error
    except SafetensorError as error:
        raise UsageError(
            f"{flag} {name}: a weights file is damaged or incomplete ({error}): copy or download "
            "it again"
        ) from error
    except (OSError, HFValidationError) as error:
        fault = _fault(f"{flag} {name} cannot be loaded", error)
        if fault is None:
            raise
        raise fault from error


def check_place(flag: str, name: str, kind: str = "") -> None:
    """Refuse what is no folder and cannot be a name on the hub either; raises as `found`."""
    with found(flag, f"{kind}:{name}" if kind else name):
        if not Path(resolve(name)).is_dir():
            validate_repo_id(name)


def _fault(what: str, error: Exception) -> UaeError | None:
    """Tell the hub's errors apart; None for one of the disk's own."""
    causes = list(_causes(error))
    for kind, words in _REFUSALS.items():
        if any(isinstance(cause, kind) for cause in causes):
            return UsageError(f"{what}: {words}")
    if any(isinstance(cause, HfHubHTTPError | HTTPError) for cause in causes):
        return EnvironmentFault(f"{what}: its server fails ({_one_line(causes[-1])}): try later")
    if any(isinstance(cause, _SILENCE) or type(cause) is URLError for cause in causes):
        reason = " (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else ""
        return EnvironmentFault(
            f"{what}: it is no folder and no download kept in {constants.HF_HUB_CACHE}, and the "
            f"hub cannot be reached{reason}: check the name and the network"
        )
    if isinstance(error, OSError) and error.errno is not None:
        return None
    return UsageError(f"{what}: {_one_line(error)}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
