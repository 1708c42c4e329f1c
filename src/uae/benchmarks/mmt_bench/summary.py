"""MMT-Bench's scores, per split: overall, meta-tasks and subtasks, each with n and interval.

- a subtask: share of its questions, with Wilson's interval
- a meta-task: the unweighted mean of its subtasks' accuracies
- overall: share of all questions (VLMEvalKit's and the leaderboard's number)

A subtask has about 20 questions in VAL, so its interval is wide.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from uae.benchmarks.results.result import BenchResult
from uae.benchmarks.results.scores import Score
from uae.benchmarks.summary import figure_text
from uae.runs.rows import ItemRow

ALL = "ALL"

SAMPLES = {
    "answer": "letter read from the reply; a reply that fits no rule is wrong",
    "likelihood": "likeliest first letter of the reply; nothing to read",
}
PARSED = "parsed"
ABBREVIATIONS = {
    "visual_recognition": "VR", "localization": "Loc", "ocr": "OCR", "counting": "Count",
    "hallucination": "HLN", "image_retrieval": "IR", "threed": "3D", "visual_captioning": "VC",
    "visual_grounding": "VG", "doc_understanding": "DU", "action_recognition": "AR",
    "pixel_level_perception": "PLP", "image-to-image_translation": "I2IT",
    "relation_reasoning": "RR", "intelligence_quotient_test": "IQT", "emotion": "Emo",
    "visual_illusion": "VI", "meme_understanding": "MemU", "visual_prompt_understanding": "VPU",
    "anomaly_detection": "AND", "keypoint_detection": "KD", "visual_commonsense_reasoning": "VCR",
    "image_evaluation_judgement": "IEJ", "multiple_image_analysis": "MIA",
    "cross_image_matching": "CIM", "temporal_understanding": "TU", "visual_code": "VP",
    "medical_understanding": "MedU", "autonomous_driving": "AUD",
    "discipline_knowledge_reasoning": "DKR", "embodied_ai": "EA", "gui_navigation": "GN",
}  # fmt: skip
"""Short names of the 32 meta-tasks, for tables alone: which there are is read from the data."""


def mmt_scores(rows: Sequence[ItemRow]) -> list[Score]:
    """Return the scores that rows allow; a split or sample that nothing measured has none."""
    scored = [row for row in rows if row.samples]
    splits = sorted({row.labels["split"] for row in scored})
    where = {split: {"split": split} for split in splits}
    if len(splits) > 1 and ALL not in where:
        where[ALL] = {}
    scores = []
    for split, labels in where.items():
        # an excluded row counts in the figures of its subtask too
        within = [row for row in rows if labels.items() <= row.labels.items()]
        for sample in SAMPLES:
            if any(sample in row.samples for row in within):
                scores += _scores_of(sample, split, labels, within)
        scores.append(Score(name=f"{PARSED}/{split}/overall", sample=PARSED, where=labels))
    return scores


def _scores_of(
    sample: str, split: str, where: Mapping[str, str], rows: Sequence[ItemRow]
) -> Iterator[Score]:
    name = f"{sample}/{split}"
    yield Score(name=f"{name}/overall", sample=sample, where=where)
    subtasks: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        subtasks[row.labels["meta_task"]].add(row.labels["subtask"])
    for meta in sorted(subtasks):
        of_meta = {**where, "meta_task": meta}
        yield Score(
            name=f"{name}/meta-task/{meta}", sample=sample, where=of_meta, mean_over="subtask"
        )
        for subtask in sorted(subtasks[meta]):
            yield Score(
                name=f"{name}/subtask/{meta}/{subtask}",
                sample=sample,
                where={**of_meta, "subtask": subtask},
            )


def summary_text(result: BenchResult) -> str:
    """Write a result as tables, one for each split and sample."""
    lines = [f"{result.num_items} questions, {result.num_excluded} left out; 95 % intervals"]
    lines += result.marks
    lines += [f"  {x}: {len(of)} ({_named(list(of))})" for x, of in result.excluded.items()]
    width = max((len(_short(x.score)) for x in result.scores), default=0)
    for x in result.scores:
        sample = x.score.sample
        if "meta_task" not in x.score.where:
            meaning = SAMPLES.get(sample, "share of the replies that fit a rule")
            lines += ["", f"{x.score.where.get('split', ALL)}, {sample}: {meaning}"]
        lines.append(f"  {_short(x.score):{width}}  {figure_text(x.estimate, 'share')}")
    return "\n".join(lines)


def _short(score: Score) -> str:
    if "subtask" in score.where:
        return f"    {score.where['subtask']}"
    if "meta_task" in score.where:
        meta = score.where["meta_task"]
        return f"  {meta} ({ABBREVIATIONS[meta]})" if meta in ABBREVIATIONS else f"  {meta}"
    return "overall"


def _named(items: Sequence[str]) -> str:
    return ", ".join(items[:5]) + (", ..." if len(items) > 5 else "")
