# pyright: reportMissingImports=false
"""The encoder as a model of lmms-eval, loaded by lmms-eval alone (see `models.py`).

What a request holds: `construct_requests` of lmms_eval/api/task.py, `ConfigurableMessagesTask` for
the chat model, `ConfigurableTask` for the simple one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lmms_eval.api.model import lmms

from uae.benchmarks.lmms.requests import chat, reply_config, turn
from uae.core.errors import UsageError
from uae.models.chat import Message, chat_prompts, context_length, grow_replies
from uae.models.unified import UnifiedAutoEncoder
from uae.models.vlm.family import Prompts


class _Uae(lmms):
    """Replies to chats, and weighs replies; questions are asked one by one."""

    def __init__(
        self, model: str = "uae-tiny", device: str = "cpu", seed: int = 0, batch_size: Any = 1
    ) -> None:
        """Load a model folder or a preset; `seed` chooses words where a task has a temperature."""
        super().__init__()
        del batch_size  # lmms-eval passes it to all
        self._encoder = UnifiedAutoEncoder.from_pretrained(model, device).encoder
        self._seed = seed

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Return each continuation's log-probability, and whether its words are the most probable.

        The options of a multiple-choice task (their continuation is a text, not a function) get
        minus that: lmms-eval 0.7 chooses the smallest, since its own models return losses. Chat
        tasks generate only, so lmms-eval asks this of the simple model.
        """
        results = []
        for request in requests:
            context, target, doc_to_visual, doc_id, task, split = request.args
            doc = self.task_dict[task][split][doc_id]
            prompts = chat_prompts(self._encoder, [turn(context, doc_to_visual(doc))])
            is_option = isinstance(target, str)
            log_prob, is_greedy = self._log_likelihood(
                prompts, target if is_option else target(doc)
            )
            results.append((-log_prob if is_option else log_prob, is_greedy))
        return results

    @torch.no_grad()
    def _log_likelihood(self, prompts: Prompts, continuation: str) -> tuple[float, bool]:
        ids = self._encoder.token_ids(continuation)
        if not ids:
            return 0.0, True
        # the end token belongs to no continuation; `log_probs` takes two tokens or more
        token_ids = torch.tensor([[*ids, self._encoder.end_id]], device=self._encoder.device)
        is_counted = torch.arange(token_ids.shape[1], device=self._encoder.device) < len(ids)
        log_probs = self._encoder.log_probs(prompts, token_ids, is_counted[None])
        greedy = self._encoder.sample(prompts, None, max_new_tokens=len(ids)).token_ids
        return log_probs.sum().item(), greedy[0].tolist() == ids

    def _reply(self, messages: Sequence[Message], choices: Mapping[str, Any]) -> str:
        prompts = chat_prompts(self._encoder, messages)
        num_free = context_length(self._encoder) - int(prompts.mask.sum())
        if num_free < 1:
            raise UsageError("a task's question is longer than the encoder's context")
        config = reply_config(choices, self._seed, num_free)
        *_, (reply,) = grow_replies(self._encoder, prompts, config)
        return reply.text


class UaeChat(_Uae):
    """Takes a task's messages, as `doc_to_messages` makes them."""

    is_simple = False

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        return [self._rounds(request.args, one=True)[0] for request in requests]

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[list[str]]:
        """Return the replies of all rounds of each request; its task asks until it has enough."""
        return [self._rounds(request.args, one=False) for request in requests]

    def _rounds(self, args: tuple[Any, ...], *, one: bool) -> list[str]:
        _, doc_to_messages, choices, doc_id, task, split = args
        doc = self.task_dict[task][split][doc_id]
        replies = [self._reply(chat(doc_to_messages(doc)), choices)]
        is_over, info = one, None
        while not is_over:
            asked = doc_to_messages(
                doc,
                round_idx=len(replies),
                previous_output=list(replies),
                previous_round_info=info,
            )
            if not isinstance(asked, tuple):  # a task of one round
                break
            messages, is_over, _, info = asked
            if not is_over:
                replies.append(self._reply(chat(messages), choices))
        return replies


class UaeSimple(_Uae):
    """Takes a task's text and images, the images first."""

    is_simple = True

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        replies = []
        for request in requests:
            context, choices, doc_to_visual, doc_id, task, split = request.args
            asked = turn(context, doc_to_visual(self.task_dict[task][split][doc_id]))
            replies.append(self._reply([asked], choices))
        return replies

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[list[str]]:
        """Refuse: rounds are asked as chats."""
        raise UsageError("a task of several rounds needs the chat model: leave out --force_simple")
