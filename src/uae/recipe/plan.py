"""The plan of a run: its stages, and the turns of RL."""

from dataclasses import dataclass
from typing import Literal

from uae.core.errors import UsageError
from uae.recipe.recipe import Recipe, Schedule

Side = Literal["encoder", "decoder", "joint"]


@dataclass(frozen=True, slots=True)
class Turn:
    """Consecutive RL steps of one side."""

    side: Side
    num_steps: int


def turns(schedule: Schedule, encoder_steps: int, decoder_steps: int, every: int = 0) -> list[Turn]:
    """Lay out the RL stage: whole turns, or turns of `every` steps that alternate."""
    left = {"encoder": encoder_steps, "decoder": decoder_steps, "joint": encoder_steps}
    if schedule != "alternate":
        return [Turn(schedule, left[schedule])] if left[schedule] else []
    plan = []
    while left["encoder"] or left["decoder"]:
        for side in ("encoder", "decoder"):
            size = min(every or left[side], left[side])
            plan += [Turn(side, size)] if size else []
            left[side] -= size
    return plan


def turns_of(recipe: Recipe) -> list[Turn]:
    """Return the turns of a recipe's RL stage."""
    return turns(
        recipe.schedule,
        recipe.encoder_rl.num_steps,
        recipe.decoder_rl.num_steps,
        recipe.alternate_every,
    )


def stages_of(recipe: Recipe) -> list[str]:
    """Return the stages that the recipe gives steps to, in order."""
    num_steps = {
        "pretrain": recipe.pretrain.num_steps,
        "cold_start": recipe.cold_start.num_steps,
        "rl": sum(turn.num_steps for turn in turns_of(recipe)),
    }
    return [stage for stage, steps in num_steps.items() if steps]


def plan_of(recipe: Recipe) -> list[str]:
    """Do as `stages_of`; a recipe that gives no steps is a `UsageError`."""
    if stages := stages_of(recipe):
        return stages
    raise UsageError(
        "the recipe has no steps: set pretrain.num_steps, cold_start.num_steps, "
        "encoder_rl.num_steps or decoder_rl.num_steps above 0"
    )


def point_after(stage: str, recipe: Recipe) -> str:
    """Name the evaluation point that a stage ends with: RL's by its last turn, if few."""
    sides = [turn.side for turn in turns_of(recipe)]
    if stage != "rl" or len(sides) > len(set(sides)):
        return stage
    return f"{sides[-1]}-rl"
