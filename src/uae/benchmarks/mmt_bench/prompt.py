"""The text of a question, after its images.

- `vlmevalkit`: open-compass/VLMEvalKit `ImageMCQDataset.build_prompt`. Its own Qwen classes
  override it with another one, so their numbers come from another prompt.
- `compact`: what uae-tiny was trained on; numbers under it compare with nobody's.
"""

from collections.abc import Callable
from typing import Literal

from uae.data.questions import Question
from uae.scenes.questions import question_text

PromptName = Literal["vlmevalkit", "compact"]


def prompt_text(question: Question) -> str:
    """Return a question in VLMEvalKit's format."""
    hint = f"Hint: {question.hint}\n" if question.hint else ""
    options = "".join(f"{letter}. {text}\n" for letter, text in question.lettered.items())
    return (
        f"{hint}Question: {question.question}\nOptions:\n{options}"
        "Please select the correct answer from the options above. \n"
    )


PROMPTS: dict[PromptName, Callable[[Question], str]] = {
    "vlmevalkit": prompt_text,
    "compact": question_text,
}
