"""`uae eval audit`: a trained pair against the pair it began as, on any images."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt

from uae.commands.inputs import find_images
from uae.commands.runs import Resume, check_run, ended, progress_of, stages_of
from uae.commands.startup import quick_start
from uae.commands.talk import PLAINLY, Talk
from uae.commands.unified_bench import backbones_of
from uae.errors import UsageError

if TYPE_CHECKING:
    from uae.commands.halves import Pair
    from uae.eval.mmt_bench.prompt import PromptName

NEXT = {"audit": "uae eval unified-bench IMAGES --model MODEL --out RUN"}
"""What the help names as the next command."""


def audit(
    images: Annotated[list[Path], Parameter(name="IMAGE")],
    /,
    *,
    model: str,
    before: str = "uae-tiny",
    out: Path,
    reward: Annotated[tuple[str, ...], Parameter(negative="")] = ("clip",),
    backbone: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    questions: Path | None = None,
    prompt: Literal["vlmevalkit", "compact"] = "vlmevalkit",
    seed: NonNegativeInt = 0,
    batch_size: PositiveInt = 16,
    resume: Resume = "auto",
    device: str = "auto",
    talk: Talk = PLAINLY,
) -> int:
    """Audit a trained model against the one it began as: swap matrix, captions, pictures.

    Try:
        uae eval audit IMAGES --model runs/demo/model --before uae-tiny --out runs/audit

    The same command goes on where it stopped.

    Args:
        images: Image files or folders that neither model was trained on.
        model: Model folder after training.
        before: Model folder or preset that the training began with.
        out: Folder of the run: captions, redraws, one row per image, scores, audits.json.
        reward: Backbones that were the reward; the others are held out.
        backbone: As for unified-bench; by default those that the trained model names.
        questions: MMT-Bench's .tsv, or any file in its columns: is general understanding kept?
        prompt: Wording of the questions; compact is what uae-tiny was trained on.
        seed: Seed of the noise; captions are the most probable words.
        batch_size: Images at once; changes speed and memory alone.
        resume: must refuses a folder without a run, never one with a run.
        device: auto, cpu, cuda or cuda:1.
        talk: Format and verbosity.
    """
    talk.begin()
    check_run(out, resume)
    files = find_images(images, without=out)
    with quick_start():
        import torch

        from uae.commands import halves
        from uae.eval.pair_audit import run
        from uae.eval.pair_audit.summary import settings_of, summary_text

        given = halves.Given("", seed, device, torch.float32)
        pairs = {
            side: halves.Pair.read(name, None, None, given, sees_image=False)
            for side, name in (("before", before), ("after", model))
        }
        own = {side: pair.writes.settings() for side, pair in pairs.items()}
        chosen = backbones_of(backbone or halves.own_backbones(pairs["after"]))
        _check_reward(reward, chosen)
        tokens = {
            side: halves.tokens_of(pair, None, is_needed=True) for side, pair in pairs.items()
        }
        task = run.AuditTask(
            own={
                side: pair.task(files.paths, out, chosen, tokens[side], batch_size)
                for side, pair in pairs.items()
            },
            max_caption_tokens={side: s.max_caption_tokens for side, s in own.items()},
            reward=reward,
            out=out,
        )
        stamps = {side: pair.stamp() for side, pair in pairs.items()}
        settings = settings_of(task, stamps, halves.digests(chosen, device), run.RULES)
    asked = partial(_understanding, pairs, questions, prompt, out, talk) if questions else None
    progress, show = stages_of(talk)
    result, audits = run.audit_pair(
        task, settings, list(chosen), resume=resume, understanding=asked, show=show
    )
    progress.close()
    return ended(result, out, summary_text(result, audits), talk)


def _check_reward(reward: tuple[str, ...], chosen: dict[str, str]) -> None:
    unknown = [name for name in reward if name not in chosen]
    if unknown:
        raise UsageError(f"--reward {unknown[0]}: expected one of {', '.join(chosen)}")


def _understanding(
    pairs: "dict[str, Pair]", questions: Path, prompt: "PromptName", out: Path, talk: Talk
) -> tuple[np.ndarray, np.ndarray]:
    """Ask both encoders the same questions; return 1 where right, in the same order."""
    from uae.commands import loop
    from uae.eval.mmt_bench.encoder_answers import EncoderAnswers
    from uae.eval.mmt_bench.evaluate import MmtConfig, evaluate_mmt
    from uae.eval.results.rows import ITEMS, read_rows
    from uae.models.settings import resolve

    answers = {}
    for side, pair in pairs.items():
        name, folder = pair.writes.name, out / "questions" / side
        asked = EncoderAnswers(loop.load(name, pair.given.device).encoder)
        progress, show = progress_of(f"questions, {side}", "question", talk)
        stamp, config = asked.stamp(name, Path(resolve(name))), MmtConfig(prompt=prompt)
        evaluate_mmt(asked, questions, folder, stamp, config, show=show)
        progress.close()
        rows = read_rows(folder / ITEMS)[0]
        answers[side] = {row.item: row.samples.get("answer", np.nan) for row in rows}
    items = sorted(answers["before"])
    before, after = (
        np.array([side[item] for item in items], dtype=np.float64)
        for side in (answers["before"], answers["after"])
    )
    return before, after
