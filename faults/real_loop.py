"""RL through the real stage, loops and checkpoints, on a random model: what the trials break."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from faults.random_model import random_model_folder
from faults.trials import untimed_metrics
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.recipe import Recipe, Schedule
from uae.rewards.loading import load_backbones
from uae.rewards.reward import Rewarder
from uae.runs.checkpoint import load_latest
from uae.runs.folder import CHECKPOINTS
from uae.runs.run import Run
from uae.scenes.run_images import run_images
from uae.scenes.source import SceneSource
from uae.train.run import Context, run_rl

NUM_IMAGES = 4
GROUP_SIZE = 4
SIDES: tuple[Schedule, Schedule] = ("encoder", "decoder")
_WEIGHTS = "weights.safetensors"


def recipe_of(schedule: Schedule, num_steps: int, seed: int = 0) -> Recipe:
    """Return a recipe of RL alone, in two micro-batches per step.

    Args:
        schedule: `alternate` changes sides after every step, encoder first.
        num_steps: Steps in all.
        seed: Of every draw.
    """
    per_side = num_steps // 2 if schedule == "alternate" else num_steps
    tuning = {"rank": 4, "alpha": 8}
    images = {"num_steps": per_side, "num_images": NUM_IMAGES, "micro_images": NUM_IMAGES // 2}
    words = {"max_new_tokens": 16}
    return Recipe(
        model=str(random_model_folder()),
        seed=seed,
        schedule=schedule,
        alternate_every=1,
        checkpoint_every=2,
        tune_encoder=tuning,
        tune_decoder=tuning,
        encoder_rl={
            **images,
            "captioning": {"num_captions": GROUP_SIZE, **words},
            "sampling": {"num_steps": 2},
            "kl_beta": 0.1,
            "optimizer": {"lr": 1e-3},
        },
        decoder_rl={
            **images,
            "captioning": {"num_captions": 1, **words},
            "num_redraws": GROUP_SIZE,
            "num_sampling_steps": 3,
            "objective": {"window_starts": 2},
        },
    )


@dataclass(frozen=True, slots=True)
class Result:
    """Where a run ended.

    Attributes:
        weights: Of all parts of the model.
        trained: Tensors of the last checkpoint: trained weights and optimizer state.
        place: What else that checkpoint holds, and its step.
        metrics: All lines, without timings.
    """

    weights: dict[str, Tensor]
    trained: dict[str, Tensor]
    place: dict[str, Any]
    metrics: list[dict[str, Any]]

    def equals(self, other: "Result") -> bool:
        """Tell if the two are the same, bit for bit."""
        return (
            bitwise_equal(self.weights, other.weights)
            and bitwise_equal(self.trained, other.trained)
            and self.place == other.place
            and self.metrics == other.metrics
        )

    def is_finite(self) -> bool:
        """Tell if no weight is NaN or infinite."""
        return all(bool(value.isfinite().all()) for value in self.weights.values())


def train(folder: Path, recipe: Recipe, stop_in: int | None = None) -> None:
    """Run or resume a recipe's RL stage, and leave all weights in the folder.

    Args:
        folder: Of the run.
        recipe: From `recipe_of`.
        stop_in: Send SIGTERM in that step of this process, counted from 0.

    Raises:
        Stopped: By that signal; the state is saved.
    """
    model = UnifiedAutoEncoder.from_pretrained(recipe.model)
    source = SceneSource("train", 50, model.decoder.size_px, recipe.seed)
    with Run.open(folder, {"seed": recipe.seed}) as run:
        if stop_in is not None:
            signal_in_step(run, stop_in)
        evaluator = run_images(recipe).evaluator
        backbones = load_backbones(model.settings.similarity)
        run_rl(Context(recipe, run, model, source, backbones, evaluator))
    save_file(weights_of(model), folder / _WEIGHTS)


def signal_in_step(run: Run, step: int) -> None:
    """Send SIGTERM to this process once the metrics of a step are written."""
    plain, written = run.metrics.write, []

    def write(values: Mapping[str, int | float]) -> None:
        plain(values)
        written.append(values)
        if len(written) == step + 1:
            signal.raise_signal(signal.SIGTERM)

    run.metrics.write = write


def weights_of(model: UnifiedAutoEncoder) -> dict[str, Tensor]:
    """Copy all weights of encoder, projector and decoder."""
    parts = {
        "encoder": model.encoder.model,
        "projector": model.projector,
        "decoder": model.decoder.transformer,
    }
    return {
        f"{part}.{name}": value.detach().clone(memory_format=torch.contiguous_format)
        for part, module in parts.items()
        for name, value in module.state_dict().items()
    }


def result_of(folder: Path) -> Result:
    """Read a finished run; one of too few steps for a checkpoint has nothing trained or placed."""
    latest = load_latest(folder / CHECKPOINTS / "rl")
    return Result(
        weights=load_file(folder / _WEIGHTS),
        trained=latest.tensors if latest else {},
        place={**latest.state, "step": latest.step} if latest else {},
        metrics=untimed_metrics(folder),
    )


def bitwise_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Tell if two sets of tensors are the same, NaN and signed zeros included."""
    return one.keys() == other.keys() and all(_bytes(one[k]) == _bytes(other[k]) for k in one)


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() + str((tensor.dtype, tensor.shape)).encode()


def largest_gap(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Return max |difference| over all tensors."""
    assert one.keys() == other.keys()
    return max((one[k].double() - other[k].double()).abs().max().item() for k in one)


@contextmanager
def changed_rewards(change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within this context loops learn from what `change` makes of the true rewards."""
    plain = Rewarder.__call__

    def changed(rewarder: Rewarder, *scored: Any) -> Tensor:
        return change(plain(rewarder, *scored))

    with mock.patch.object(Rewarder, "__call__", changed):
        yield
