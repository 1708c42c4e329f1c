# diffusers' pipelines share no type that knows their parts
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
"""What a recipe needs before it is run: parameters, memory, operations, disk, by loop and phase.

Counted on the models' real classes without weights, by the functions that a run calls (`work.py`).
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from uae.models.unified import UnifiedAutoEncoder
from uae.models.weightless import weightless
from uae.planning.gpus import SHARE, Gpu
from uae.planning.steps import STEPS, Blanks
from uae.planning.tally import Tally
from uae.planning.work import Phase, Work
from uae.recipe.plan import plan_of, turns_of
from uae.recipe.recipe import Recipe
from uae.rewards.reward import Reward, Rewarder
from uae.rewards.similarity import Similarity
from uae.runs.run import Run
from uae.train.run import LOOPS, load_backbones, load_model, rl_learners, supervised_learner
from uae.train.session import Session

CHECKPOINTS_KEPT = 2
"""Of a stage, by `Run.open`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Weights that lie together.

    Attributes:
        of: The part of a run that they belong to: encoder, decoder or rewards.
        parameters: Their number.
        trained: How many of them the run trains.
        num_bytes: Of all.
    """

    of: str
    parameters: int
    trained: int
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopNeeds:
    """What a loop takes.

    Attributes:
        name: Of the loop.
        num_steps: Of the recipe.
        parts: Weights by name.
        states: Bytes of the optimizers.
        gradients: Bytes of gradients.
        phases: Of a step, in order.
        checkpoint: Bytes of a checkpoint.
        offloaded: Parts that wait in the CPU's memory while a phase does not need them.
        checkpoints_kept: Of a stage.
    """

    name: str
    num_steps: int
    parts: Mapping[str, Part]
    states: int
    gradients: int
    phases: tuple[Phase, ...]
    checkpoint: int
    offloaded: tuple[str, ...]
    checkpoints_kept: int = CHECKPOINTS_KEPT

    def weights(self, phase: Phase) -> int:
        """Return the bytes of weights on the device in a phase."""
        gone = {name for name in self.offloaded if name not in phase.parts}
        return sum(part.num_bytes for part in self.parts.values() if part.of not in gone)

    def peak(self, phase: Phase) -> int:
        """Return the most bytes on the device in a phase."""
        return self.weights(phase) + phase.peak

    @property
    def worst(self) -> Phase:
        """The phase that takes most memory."""
        return max(self.phases, key=self.peak)


def seconds_of(phase: Phase, gpu: Gpu) -> float:
    """Estimate the seconds of a phase: by operations or by memory, whichever takes longer."""
    rates = {torch.float32: gpu.float32_tflops, torch.float64: gpu.float32_tflops / 2}
    rate = {dtype: rates.get(dtype, gpu.bfloat16_tflops) * 1e12 for dtype in phase.flop}
    computing = sum(flop / rate[dtype] for dtype, flop in phase.flop.items())
    return max(computing, phase.moved / (gpu.bandwidth_gb_s * 1e9)) / SHARE


def needs_of(recipe: Recipe) -> list[LoopNeeds]:
    """Count what each loop of a recipe takes.

    Raises:
        UsageError: The recipe has no steps, or its model is none, or of no family there is.
        EnvironmentFault: A config is on the hub, which cannot be reached.
    """
    placement = replace(recipe.placement, compile=False, offload=[])
    counted = replace(recipe, device="meta", placement=placement)
    return [needs for stage in plan_of(recipe) for needs in _loops(stage, counted, recipe)]


def _loops(stage: str, counted: Recipe, recipe: Recipe) -> Iterator[LoopNeeds]:
    """Count each loop of a stage, all with one model."""
    with weightless():
        model = load_model(counted.model, counted)
        rewards = load_backbones(model, counted, "meta")
    num_steps = Counter[str]()
    if stage == "rl":
        learners = rl_learners(model, counted)
        for turn in turns_of(counted):
            num_steps[LOOPS[turn.side]] += turn.num_steps
    else:
        config = getattr(counted, stage)
        learners = {"decoder": supervised_learner(model, counted, stage, config)}
        num_steps[stage] = config.num_steps
    trained = [p for learner in learners.values() for p in learner.parameters.values()]
    modules = _modules(model, rewards)
    parts = {name: _part(of, module, trained) for name, (of, module) in modules.items()}
    tally = Tally(tensor for _, module in modules.values() for tensor in _tensors(module))
    rewarder = Rewarder({name: (rewards[name], w) for name, w in counted.reward.items()})
    source = Blanks(model.decoder.size_px)
    with tempfile.TemporaryDirectory() as folder, Run.open(Path(folder) / "run", {}) as run:
        work = Work(Session(stage, model, source, rewarder, learners, run, 0, 1), tally)
        checkpoint = [x for learner in learners.values() for x in learner.tensors().values()]
        for loop in num_steps:
            work.begin()
            STEPS[loop](work, counted)
            yield LoopNeeds(
                name=loop,
                num_steps=num_steps[loop],
                parts=parts,
                states=work.states,
                gradients=_bytes(trained),
                phases=tuple(work.phases.values()),
                checkpoint=_bytes(checkpoint),
                offloaded=tuple(recipe.placement.offload),
            )


def _modules(
    model: UnifiedAutoEncoder, rewards: Mapping[str, Reward]
) -> dict[str, tuple[str, nn.Module]]:
    """Return all modules by name, each with the part of a run that it moves with."""
    modules: dict[str, tuple[str, nn.Module]] = {"encoder": ("encoder", model.encoder.model)}
    if model.projector is not None:
        modules["projector"] = ("projector", model.projector)
    for name, module in model.decoder.family.modules().items():
        modules["decoder" if name == "transformer" else name] = ("decoder", module)
    for name, reward in rewards.items():
        if isinstance(reward, Similarity):
            modules[f"reward {name}"] = ("rewards", reward.model)
    return modules


def _part(of: str, module: nn.Module, trained: Sequence[Tensor]) -> Part:
    ids = {id(parameter) for parameter in trained}
    numbers = [*module.parameters()]
    return Part(
        of=of,
        parameters=sum(p.numel() for p in numbers),
        trained=sum(p.numel() for p in numbers if id(p) in ids),
        num_bytes=_bytes(_tensors(module)),
    )


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _bytes(tensors: Iterable[Tensor]) -> int:
    storages = {id(x.untyped_storage()): x.untyped_storage().nbytes() for x in tensors}
    return sum(storages.values())
