"""Evaluation of a run on the user's own images, a share of which is held out by name.

Nothing is known of them but what they show: captions are redrawn and compared, by the reward and by
backbones that are never a reward, and audited. Captions that came with the images are redrawn too,
which says how well the decoder draws such images from words.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from uae.core.errors import UsageError
from uae.data.folder import list_images
from uae.data.folder_captions import read_captions
from uae.data.opening import open_image
from uae.data.shapes import Shapes, Size, fitted
from uae.data.sources import FolderSource
from uae.data.survey import Survey
from uae.data.untrusted.file import UnreadableImage
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.recipe import Recipe
from uae.report.statistics import weighted
from uae.report.tables import Metric
from uae.train.evaluator import Point, Similarities, Subjects, audit_samples, similarity_metric
from uae.train.observe import Observations, ShowProgress, load
from uae.train.read_back import Readings, WordsKept

log = logging.getLogger(__name__)

MIN_IMAGES = 4
"""A folder of fewer cannot hold two out, which an interval needs, and train on as many."""
GIVEN = "given"
"""Pictures drawn from the captions that came with the images."""


def held_out_names(names: Sequence[str], share: float) -> list[str]:
    """Choose the images that are held out, by their names alone; two at least.

    An image stays on its side when others are added or removed, but for the few at the border.
    """
    number = max(2, round(share * len(names)))

    def digest(name: str) -> bytes:
        return hashlib.sha256(name.encode(errors="surrogateescape")).digest()

    return sorted(sorted(names, key=digest)[:number])


class OwnImages:
    """Captions and redraws of held-out images, compared with the images."""

    headlines = (
        "reconstruction/reward",
        "reconstruction/held_out",
        "reconstruction/swap",
        "reconstruction/given",
        "caption/num_tokens",
        "caption/truncated",
        "caption/over_limit",
    )

    def __init__(self, folder: Path, share: float, recipe: Recipe, max_caption_tokens: int) -> None:
        """List a folder's images and choose those that are held out.

        Args:
            folder: The user's images.
            share: Of the images, that is held out.
            recipe: Of the run.
            max_caption_tokens: Longest caption the decoder was trained for.

        Raises:
            UsageError: There is no such folder, or it holds too few images.
        """
        self.config = recipe.evaluation
        self._folder = folder
        self._reward = recipe.reward
        self._max_caption_tokens = max_caption_tokens
        names = list_images(folder).names
        if len(names) < MIN_IMAGES:
            raise UsageError(
                f"data.folder {folder} has {len(names)} images: expected {MIN_IMAGES} or more, so "
                "that some can be held out; data.held_out_share 0 trains on all of them, and "
                "measures the run on rendered scenes"
            )
        self._all_held_out = held_out_names(names, share)
        self._num_images = len(names)

    def source(self, shapes: Shapes, survey: Survey | None) -> FolderSource:
        """Open the images that are trained on."""
        assert survey is not None, "a folder is looked at before it is trained on"
        log.info(
            "%d of %d images are held out, by name: the run is measured on %d of them",
            len(self._all_held_out),
            self._num_images,
            len(self._images),
        )
        self._captions = survey.captions.texts  # also after the files have changed
        return FolderSource(survey, shapes, without=frozenset(self._all_held_out))

    @property
    def note(self) -> str:
        """What the figures rest on."""
        return (
            f"{len(self._images)} held-out images of {self._folder.name} (of {self._num_images}), "
            f"seed {self.config.seed}."
        )

    def check(self) -> None:
        """Refuse a folder none of whose held-out images opens."""
        if len(self._images) < 2:
            raise UsageError(
                f"data.folder {self._folder}: fewer than two of its {len(self._all_held_out)} "
                "held-out images can be read: mend them, or change data.held_out_share"
            )

    def names(self) -> Sequence[str]:
        """Name the held-out images that open, `evaluation.num_images` at most."""
        return list(self._images)

    def num_drawn(self) -> int:
        """Return how many images a point draws: redraws, those of the swap test, given captions."""
        return 2 * len(self._images) + len(self._given_captions)

    @cached_property
    def _captions(self) -> Mapping[str, str]:
        return read_captions(self._folder)

    @property
    def _given_captions(self) -> dict[int, str]:
        captions = self._captions
        return {i: captions[name] for i, name in enumerate(self._images) if name in captions}

    @cached_property
    def _images(self) -> dict[str, Image.Image]:
        images: dict[str, Image.Image] = {}
        for name in self._all_held_out:
            if len(images) == self.config.num_images:
                break
            # one that does not open is named where the training images are opened
            with suppress(UnreadableImage):
                images[name] = open_image(self._folder / name)
        return images

    def subjects(self, model: UnifiedAutoEncoder, show: ShowProgress) -> Subjects:
        """Return the held-out images, and the captions that came with them."""
        rows = self._given_captions
        return Subjects(
            images=[model.decoder.shapes.seen(image) for image in self._images.values()],
            texts={GIVEN: list(rows.values())} if rows else {},
            described={GIVEN: list(rows)} if rows else {},
            read_back=GIVEN if rows else "captions",
        )

    def score(self, folder: Path, name: str) -> Point:
        """Score the observations of a point."""
        seen, pictures = load(folder)
        redraws = pictures["captions"]
        similarities = Similarities.of(seen, self._reward)
        kept = WordsKept.of(Readings(**seen.readings)) if seen.readings else None
        return Point(
            name=name,
            observations=seen,
            redraws=redraws,
            metrics=(
                *similarities.metrics(),
                *self._given(seen),
                *self._lengths(seen),
                *(kept.metrics() if kept else ()),
            ),
            audit=audit_samples(seen, redraws, similarities, self._max_caption_tokens),
            gate=kept.gate() if kept else None,
        )

    def _given(self, seen: Observations) -> Iterator[Metric]:
        """Yield what redraws of the captions that came with the images are like."""
        if GIVEN in seen.more_similarities:
            columns = seen.more_similarities[GIVEN]
            others = {name: 1.0 for name in columns if name not in self._reward}
            note = "redraws of the captions that came with the images"
            samples = weighted(columns, others)
            yield similarity_metric(GIVEN, "given captions, held-out backbone", samples, note)

    def _lengths(self, seen: Observations) -> Iterator[Metric]:
        """Yield how long the captions are, and how many have no end, or more than is read."""
        num_tokens, limit = np.array(seen.num_tokens, dtype=np.float64), self._max_caption_tokens
        yield Metric(
            key="caption/num_tokens",
            group="Captions",
            name="length in tokens",
            samples=num_tokens,
            kind="count",
            better="neither",
        )
        yield Metric(
            key="caption/truncated",
            group="Captions",
            name="without an end token",
            samples=np.array(seen.truncated, dtype=np.float64),
            better="down",
        )
        yield Metric(
            key="caption/over_limit",
            group="Captions",
            name=f"longer than the {limit} tokens that are read",
            samples=(num_tokens > limit).astype(np.float64),
            better="down",
        )

    def originals(self, sizes: Sequence[Size]) -> list[UInt8[np.ndarray, "_ _ 3"]]:
        """Return the held-out images, each in the height and width in which it was redrawn."""
        pairs = zip(self._images.values(), sizes, strict=True)
        return [np.asarray(fitted(image, size)) for image, size in pairs]
