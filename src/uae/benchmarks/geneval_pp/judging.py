"""What a judge is asked about an image of GenEval++, and how its verdict is read.

The words are ours: upstream's prompt asks for the same, a checklist and a natural single image, in
other sentences, so verdicts may differ from its own even by the same judge.
"""

from dataclasses import dataclass

from uae.backends.replies import json_objects
from uae.benchmarks.geneval_pp.prompts import Clause, Prompt

MAX_TOKENS = 200

SYSTEM = (
    "You check whether a picture fulfils an order. Look at the picture alone, go through the list "
    "point by point, and be strict: a wrong number, colour, place or size of one thing fails the "
    "whole picture. It also fails if it is a collage or several pictures, or if it looks unnatural "
    "or pasted together instead of like one coherent photograph. Reply with one JSON object and "
    'nothing else: {"correct": 1 or 0, "reason": "at most 30 words"}.'
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an image fulfils its prompt, and why the judge thinks so."""

    is_correct: bool
    reason: str


def question_of(prompt: Prompt) -> str:
    """Write the order and its checklist."""
    points = [*(f"shows exactly {_thing(clause)}" for clause in prompt.include)]
    points += [f"does not show {_thing(clause)} or more" for clause in prompt.exclude]
    numbered = "\n".join(f"{number}. {point}" for number, point in enumerate(points, start=1))
    return f"Order: {prompt.text}\nThe picture is correct if it\n{numbered}"


def _thing(clause: Clause) -> str:
    """Say a clause in words, e.g. "2 red fork, on the left"."""
    color = f"{clause.color} " if clause.color else ""
    words = [f"{clause.count} {color}{clause.class_name}"]
    if clause.region:
        words.append(_PLACES[clause.region])
    if clause.size:
        words.append(f"{clause.size} than the other objects")
    return ", ".join(words)


_PLACES = {
    "left": "on the left",
    "right": "on the right",
    "above": "above the other objects",
    "below": "below the other objects",
}


def read_verdict(reply: str) -> Verdict | None:
    """Read the first JSON object of a reply that is a verdict; None if there is none."""
    for values in json_objects(reply):
        correct = values.get("correct")
        if correct in (0, 1):  # true and false are equal to these
            return Verdict(bool(correct), str(values.get("reason", "")))
    return None
