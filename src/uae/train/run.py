"""Runs a recipe: its stages in order, with evaluations between them and a report at the end.

A run folder holds
    config.yaml environment.json metrics.jsonl lock      written by `run.py`
    data.json                                            names and digests of the user's own data
    cut_captions.json                                    how many captions there are too long
    checkpoints/STAGE/STEP/                              trained weights, optimizers, place
    stages/STAGE/                                        the model after each finished stage
    evaluations/N-POINT/                                 what the model made of the same scenes
    model/                                               the result, for `from_pretrained`
    report.html
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from pydantic import RootModel

from uae.core.device import device_of
from uae.core.errors import UsageError
from uae.data.sources import FolderSource, ImageSource
from uae.data.survey import Survey, survey
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.placement import NARROW
from uae.recipe.plan import Side, plan_of, point_after, turns_of
from uae.recipe.recipe import Recipe
from uae.recipe.supervised import ColdStartConfig, PretrainConfig
from uae.rewards.loading import load_rewards
from uae.rewards.places import rewarding
from uae.rewards.reward import Reward, Rewarder
from uae.rewards.similarity import move
from uae.runs.claim import Resume
from uae.runs.cut_captions import Reader, count_cut
from uae.runs.folder import check_folder
from uae.runs.progress import Progress
from uae.runs.run import Run
from uae.train import cold_start, decoder_rl, encoder_rl, joint, pretrain
from uae.train.checks import check_inputs, say_cost
from uae.train.evaluator import Evaluator, RunImages
from uae.train.learner import Learner
from uae.train.points import check_gate, evaluate_point, record_point, shown_as
from uae.train.run_report import write_run_report
from uae.train.session import Session
from uae.train.stage_folder import check_stage, copy_stage, save_stage


@dataclass(slots=True)
class Context:
    """What a stage is given. `model` is the one in training, and the only one that is kept."""

    recipe: Recipe
    run: Run
    model: UnifiedAutoEncoder
    source: ImageSource
    backbones: dict[str, Reward]
    evaluator: Evaluator
    is_rl_alone: bool = False
    """Whether the stage is the run's first and only has adapters or kept weights to take away."""

    def session(self, stage: str, learners: dict[str, Learner]) -> Session:
        """Open a stage where its newest checkpoint left it."""
        recipe, backbones = self.recipe, self.backbones
        session = Session(
            stage=stage,
            model=self.model,
            source=self.source,
            rewarder=Rewarder({name: (backbones[name], w) for name, w in recipe.reward.items()}),
            learners=learners,
            run=self.run,
            seed=recipe.seed,
            checkpoint_every=recipe.checkpoint_every,
            rounding=recipe.placement.rounding,
            offload=self.model.offload,
        )
        session.resume()
        return session

    @contextmanager
    def untrained(self) -> Iterator[UnifiedAutoEncoder]:
        """Within this context, the model the run began with: that in training where it can be."""
        if self.is_rl_alone:
            with self.model.encoder_reference(), self.model.decoder_reference():
                yield self.model
        else:
            with self.model.offload.at_work():  # nobody, which makes room
                yield load_model(self.recipe.model, self.recipe)

    def evaluate(self, point: str) -> None:
        """Measure the model on held-out images, unless this point is done already.

        Raises:
            Stopped: A signal asked for the end; the point begins again when the run goes on.
        """
        run = self.run
        shown = shown_as(f"evaluation {point}", run.metrics.progress)

        def show(what: str, done: int, total: int) -> None:
            shown(what, done, total)
            if run.should_stop:
                raise run.stopped()

        folder = evaluate_point(
            point,
            run.folder,
            self.evaluator,
            self.model,
            "same" if point == "start" else self.untrained,
            self.backbones,
            show,
        )
        run.metrics.progress.close()
        record_point(folder, run.metrics, self.evaluator, self.recipe.evaluation.num_shown)


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run: the folder of its model, and how many images could not be read."""

    model: Path
    num_left_out: int


def train_recipe(
    recipe: Recipe,
    out: Path,
    images: RunImages,
    *,
    resume: Resume = "auto",
    overwrite: bool = False,
) -> Trained:
    """Run a recipe from its beginning, or from where it stopped.

    Args:
        recipe: The recipe.
        out: Folder of the run.
        images: Those it trains on and is measured by.
        resume: `must` refuses a folder without a run, `never` one with a run.
        overwrite: Delete the run that is there.

    Raises:
        UsageError: The recipe does nothing, or `out` belongs to another run or other data, or
            lies among these.
        EnvironmentFault: The recipe's device is not there.
        DamagedCheckpoint: What a finished stage left has changed since.
        Stopped: A signal asked for the end; the state is saved.
        RunFailed: The decoder fails the drawability gate, and the recipe stops at that.
    """
    plan = plan_of(recipe)
    device = device_of(recipe.device)
    check_inputs(recipe, images.evaluator)
    config = RootModel[Recipe](recipe).model_dump(mode="json")
    check_folder(out, config, Recipe.__name__, resume, overwrite)
    data = _own_data(Path(recipe.data.folder), out) if recipe.data.folder else None
    model = load_model(recipe.model, recipe, takes_turns=True)
    source = images.source(model.decoder.shapes, data)
    say_cost(images.evaluator, len(plan) + 1, model.settings.sampling)
    backbones = load_backbones(model, recipe, device)
    with Run.open(
        out, config, resume=resume, overwrite=overwrite, track=recipe.track, data=data
    ) as run:
        if isinstance(source, FolderSource):
            reader = Reader(model.conditioner.num_tokens, model.settings.max_caption_tokens)
            count_cut(out, "data", reader, source.captions)
        folder: str | Path = recipe.model
        context = Context(recipe, run, model, source, backbones, images.evaluator)
        del model  # the context's alone, so that it goes when the next one comes
        context.evaluate("start")
        for stage in plan:
            finished = out / "stages" / stage
            if not finished.exists():
                run_stage(stage, folder, context)
            folder = finished
        if not (out / "model").exists():
            copy_stage(Path(folder), out / "model")
        write_run_report(out, recipe, images.evaluator)
    num_left_out = source.num_left_out if isinstance(source, FolderSource) else 0
    return Trained(out / "model", num_left_out)


def _own_data(folder: Path, out: Path) -> Survey:
    """Look at the images and captions to train on; the run's own folder may not be among them."""
    if out.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"{out} lies in data.folder {folder}, so its pictures would be trained on: give an "
            "--out elsewhere"
        )
    progress = Progress()
    data = survey(folder, lambda done, total: progress.show("data", done, total, unit="image"))
    progress.close()
    return data


def load_model(
    name: str | Path, recipe: Recipe, *, takes_turns: bool = False
) -> UnifiedAutoEncoder:
    """Load a model by its folder or preset, placed as the recipe says.

    Args:
        name: The folder or preset.
        recipe: Has its placement.
        takes_turns: Where the recipe offloads halves, they wait in CPU memory.
    """
    placement, device = recipe.placement, device_of(recipe.device)
    is_waiting = takes_turns and bool(placement.offload)
    model = UnifiedAutoEncoder.from_pretrained(
        name,
        "cpu" if is_waiting else device,
        torch.float32 if placement.frozen == "float32" else torch.bfloat16,
        placement.frozen if placement.frozen in NARROW else None,
    )
    model.decoder.vae_batch = placement.vae_batch
    if placement.checkpointing:
        model.encoder.keep_no_activations()
        model.decoder.keep_no_activations()
    if placement.compile:
        model.encoder.compile()
        model.decoder.compile()
    if is_waiting:
        model.take_turns(placement.offload, device)
    return model


def load_backbones(model: UnifiedAutoEncoder, recipe: Recipe, device: str) -> dict[str, Reward]:
    """Load the rewards of a run, which are also what it is measured by."""
    is_waiting = "rewards" in recipe.placement.offload
    places = rewarding(recipe.reward, model.settings.similarity, "reward.")
    backbones = load_rewards(places, "cpu" if is_waiting else device)
    take_turns(backbones, model, recipe)
    return backbones


def take_turns(backbones: Mapping[str, Reward], model: UnifiedAutoEncoder, recipe: Recipe) -> None:
    """Let rewards take turns with the halves of a model, where the recipe says so."""
    if "rewards" in recipe.placement.offload:
        model.offload.add("rewards", partial(move, backbones.values()))


def run_stage(stage: str, before: str | Path, context: Context) -> None:
    """Train and evaluate a stage from the model it begins with, and save what came of it."""
    recipe, run = context.recipe, context.run
    is_first = before == recipe.model
    if not is_first:
        check_stage(Path(before))
    if stage == "rl":
        check_gate(recipe, run.folder, before, context.evaluator)
    if not is_first:
        del context.model  # so that it goes before the next one comes
        context.model = load_model(before, recipe, takes_turns=True)
        take_turns(context.backbones, context.model, recipe)
    context.is_rl_alone = is_first and stage == "rl"
    STAGES[stage](context)
    context.evaluate(point_after(stage, recipe))
    save_stage(context.model, run.folder / "stages" / stage)


def run_pretrain(context: Context) -> None:
    """Stage 1: conditioner and decoder learn from long captions."""
    config = context.recipe.pretrain
    session = supervised_session(context, "pretrain", config)
    is_taught = config.distilled_guidance_scale != 1.0
    teacher = load_model(context.recipe.model, context.recipe) if is_taught else None
    pretrain.train(session, config, teacher)


def run_cold_start(context: Context) -> None:
    """Stage 1b: conditioner and decoder learn through a short render."""
    config = context.recipe.cold_start
    cold_start.train(supervised_session(context, "cold_start", config), config)


def supervised_session(
    context: Context, stage: str, config: PretrainConfig | ColdStartConfig
) -> Session:
    """Open a stage in which conditioner and decoder learn together."""
    learner = supervised_learner(context.model, context.recipe, stage, config)
    return context.session(stage, {"decoder": learner})


def supervised_learner(
    model: UnifiedAutoEncoder, recipe: Recipe, stage: str, config: PretrainConfig | ColdStartConfig
) -> Learner:
    """Make conditioner and decoder trainable, and what updates them together."""
    with model.offload.at_work("decoder"):
        tuning = model.tune_decoder(recipe.tune_pretrain, recipe.seed, keep_reference=False)
    parameters = {f"decoder.{n}": p for n, p in tuning.parameters().items()}
    parameters |= model.conditioner.trainable()
    return Learner(parameters, config.optimizer, f"{stage}.optimizer.lr")


def rl_learners(model: UnifiedAutoEncoder, recipe: Recipe) -> dict[str, Learner]:
    """Make the sides trainable that RL trains, and what updates each."""
    sides = {turn.side for turn in turns_of(recipe)}
    learners = {}
    if sides & {"encoder", "joint"}:
        with model.offload.at_work("encoder"):
            parameters = model.tune_encoder(recipe.tune_encoder, recipe.seed).parameters()
        learners["encoder"] = Learner(
            parameters, recipe.encoder_rl.optimizer, "encoder_rl.optimizer.lr"
        )
    if sides & {"decoder", "joint"}:
        with model.offload.at_work("decoder"):
            parameters = model.tune_decoder(recipe.tune_decoder, recipe.seed).parameters()
        learners["decoder"] = Learner(
            parameters, recipe.decoder_rl.optimizer, "decoder_rl.optimizer.lr"
        )
    return learners


def run_rl(context: Context) -> None:
    """Stages 2 and 3: the turns of the recipe's schedule, evaluated after each whole turn."""
    recipe = context.recipe
    plan = turns_of(recipe)
    session = context.session("rl", rl_learners(context.model, recipe))
    for turn in plan:
        session.planned[LOOPS[turn.side]] += turn.num_steps
    for i, turn in enumerate(plan):
        if turn.side == "encoder":
            encoder_rl.train(session, recipe.encoder_rl, turn.num_steps)
        elif turn.side == "decoder":
            decoder_rl.train(session, recipe.decoder_rl, turn.num_steps)
        else:
            joint.train(session, recipe.encoder_rl, recipe.decoder_rl, turn.num_steps)
        if i + 1 < len(plan) and not recipe.alternate_every:
            context.evaluate(f"{turn.side}-rl")


LOOPS: dict[Side, str] = {"encoder": "encoder_rl", "decoder": "decoder_rl", "joint": "joint"}
"""What each side's steps are called in metrics and progress."""

STAGES: dict[str, Callable[[Context], None]] = {
    "pretrain": run_pretrain,
    "cold_start": run_cold_start,
    "rl": run_rl,
}
