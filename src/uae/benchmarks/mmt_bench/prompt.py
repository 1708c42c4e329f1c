"""The text of a question, after its images.

- `vlmevalkit`: open-compass/VLMEvalKit `ImageMCQDataset.build_prompt`. Its own Qwen classes
  override it with another one, so their numbers come from another prompt.
- `compact`: what uae-tiny was trained on; numbers under it compare with nobody's.
"""

from collections.abc import Callable
from typing import Literal

from uae.data.questions import Question

PromptName = Literal["vlmevalkit", "compact"]


def prompt_text(question: Question) -> str:
    hint = f"Hint: {question.hint}\n" if question.hint else ""
    options = "".join(f"{letter}. {text}\n" for letter, text in question.lettered.items())
    return (
        f"{hint}Question: {question.question}\nOptions:\n{options}"
        "Please select the correct answer from the options above. \n"
    )


def compact_text(question: Question) -> str:
    hint = [f"Hint: {question.hint}"] if question.hint else []
    lines = [f"{letter}. {text}" for letter, text in question.lettered.items()]
    return "\n".join([*hint, question.question, *lines, "Answer with one letter."])


PROMPTS: dict[PromptName, Callable[[Question], str]] = {
    "vlmevalkit": prompt_text,
    "compact": compact_text,
}
