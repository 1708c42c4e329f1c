"""Errors of loading by folder or hub id: one line each, and whose fault it is."""

from urllib.error import HTTPError, URLError

import httpx2
import pytest
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

from uae.core.errors import EnvironmentFault, UaeError, UsageError
from uae.models.hub import found

ADVICE = "We couldn't connect to the hub.\nCheck your connection\n\nor see the docs"


def answered(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    request = httpx2.Request("GET", "https://huggingface.co/org/model/resolve/main/config.json")
    return kind("line one\nline two", response=httpx2.Response(status, request=request))


@pytest.mark.parametrize(
    ("cause", "kind", "said"),
    [
        (answered(GatedRepoError, 403), UsageError, "hf auth login"),
        (answered(RepositoryNotFoundError, 401), UsageError, "no such folder and no such model"),
        (answered(RevisionNotFoundError, 404), UsageError, "no such revision"),
        (answered(RemoteEntryNotFoundError, 404), UsageError, "lacks a file"),
        (HFValidationError("Repo id must"), UsageError, "there is no such folder"),
        (answered(HfHubHTTPError, 503), EnvironmentFault, "try later"),
        (answered(HfHubHTTPError, 429), EnvironmentFault, "try later"),
        (HTTPError("https://x", 500, "failed", None, None), EnvironmentFault, "try later"),  # type: ignore[arg-type]
        (LocalEntryNotFoundError("not in the cache"), EnvironmentFault, "cannot be reached"),
        (OfflineModeIsEnabled("offline"), EnvironmentFault, "HF_HUB_OFFLINE is set"),
        (ConnectionRefusedError(111, "refused"), EnvironmentFault, "cannot be reached"),
        (TimeoutError("timed out"), EnvironmentFault, "cannot be reached"),
        (URLError("no name server"), EnvironmentFault, "cannot be reached"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
@pytest.mark.parametrize("is_wrapped", [True, False])
def test_each_answer_of_the_hub_is_one_line_of_its_kind(cause, kind, said, is_wrapped):
    error = OSError(ADVICE) if is_wrapped else cause
    with pytest.raises(UaeError) as caught, found("--captioner", "vlm:org/model"):
        raise error from cause if is_wrapped else None
    assert type(caught.value) is kind
    text = str(caught.value)
    assert text.startswith("--captioner vlm:org/model cannot be loaded: ")
    assert said in text
    assert "\n" not in text


def test_another_fault_of_a_folder_is_one_line_of_usage():
    with pytest.raises(UsageError) as caught, found("--clip", "x"):
        raise OSError("no file a\n  or b")
    assert str(caught.value) == "--clip x cannot be loaded: no file a or b"


def test_a_disk_fault_is_not_taken_for_a_missing_model():
    with pytest.raises(OSError, match="No space"), found("--clip", "x"):
        raise OSError(28, "No space left")


def test_a_fault_of_usage_keeps_its_words_and_gets_the_flag():
    with pytest.raises(UsageError) as caught, found("--clip", "x"):
        raise UsageError("it is a bert")
    assert str(caught.value) == "--clip x: it is a bert"
