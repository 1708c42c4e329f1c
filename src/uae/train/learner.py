"""One trained side: its parameters, optimizer and step, with the checks that stop a bad update."""

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uae.core.errors import NonFinite, UsageError
from uae.recipe.optimizer import OptimizerConfig

_NOT_MUON = ("embed", "head", "proj_out", "projection", "lora_")


@dataclass(frozen=True, slots=True)
class StepReport:
    """Figures of one optimizer step. `grad_norm` is before clipping."""

    grad_norm: float
    lr: float

    def metrics(self) -> dict[str, float]:
        """Return them as they are logged."""
        return {"optim/grad_norm": self.grad_norm, "optim/lr": self.lr}


class Learner:
    """Owns the optimizer of one side.

    loss.backward()            # as many micro-batches as fit
    report = learner.step()    # raises before the weights change if anything is not finite
    """

    def __init__(
        self, parameters: dict[str, nn.Parameter], config: OptimizerConfig, lr_key: str = ""
    ) -> None:
        """Make the optimizer.

        Args:
            parameters: What is trained, by name.
            config: Of the optimizer.
            lr_key: The recipe's key of the learning rate, for messages.
        """
        self.parameters = parameters
        self.config = config
        self.lr_key = lr_key
        self.num_steps = 0
        self._names = {p: n for n, p in parameters.items()}
        self._optimizers = _optimizers(parameters, config)

    def step(self) -> StepReport:
        """Clip, check, update and clear the gradients.

        Raises:
            NonFinite: A gradient is not finite; weights and optimizer are unchanged.
        """
        gradients = {n: p.grad for n, p in self.parameters.items() if p.grad is not None}
        norm = nn.utils.get_total_norm(gradients.values())
        if not torch.isfinite(norm):
            bad = [name for name, grad in gradients.items() if not torch.isfinite(grad).all()]
            self.clear()
            raise NonFinite(
                f"gradient of {bad[0] if bad else 'all parameters together'} is not finite "
                f"({len(bad)} tensors) at update {self.num_steps}: the weights were not changed; "
                f"{_lower_rate(self.lr_key)}"
            )
        nn.utils.clip_grads_with_norm_(self.parameters.values(), self.config.max_grad_norm, norm)
        lr = self.config.lr_at(self.num_steps)
        self.num_steps += 1
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
        self.clear()
        return StepReport(norm.item(), lr)

    def clear(self) -> None:
        """Drop the gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and optimizer state by name, for a checkpoint."""
        result = {f"weight/{n}": p.detach() for n, p in self.parameters.items()}
        for name, parameter in self.parameters.items():
            for optimizer in self._optimizers:
                for key, value in optimizer.state.get(parameter, {}).items():
                    result[f"state/{key}/{name}"] = value
        return result

    def restore(self, tensors: dict[str, Tensor], num_steps: int) -> None:
        """Put back what `tensors` gave, bit for bit.

        Raises:
            UsageError: A weight is missing or has another shape; nothing was changed.
        """
        for name, parameter in self.parameters.items():
            weight = tensors.get(f"weight/{name}")
            if weight is None or weight.shape != parameter.shape:
                shown = "none" if weight is None else f"one of shape {tuple(weight.shape)}"
                raise UsageError(
                    f"the checkpoint holds {shown} for {name}, which has shape "
                    f"{tuple(parameter.shape)}: it belongs to another model"
                )
        self.num_steps = num_steps
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"weight/{name}"])
        states: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for full_name, value in tensors.items():
            kind, _, rest = full_name.partition("/")
            if kind == "state":
                key, _, name = rest.partition("/")
                states[name][key] = value.clone()
        for optimizer in self._optimizers:
            for parameter in optimizer.param_groups[0]["params"]:
                state = states.get(self._names[parameter], {})
                if state:
                    # counts stay on the CPU, where the optimizers keep them
                    optimizer.state[parameter] = {
                        key: value if value.ndim == 0 else value.to(parameter.device)
                        for key, value in state.items()
                    }


def _optimizers(
    parameters: dict[str, nn.Parameter], config: OptimizerConfig
) -> list[torch.optim.Optimizer]:
    """Split parameters between Muon (matrices inside blocks) and AdamW (all others)."""
    rest, matrices = [], []
    for name, parameter in parameters.items():
        is_matrix = parameter.ndim == 2 and not any(word in name for word in _NOT_MUON)
        (matrices if config.name == "muon" and is_matrix else rest).append(parameter)
    lr, decay = config.lr, config.weight_decay
    result: list[torch.optim.Optimizer] = []
    if rest:
        result.append(torch.optim.AdamW(rest, lr=lr, weight_decay=decay))
    if matrices:
        result.append(
            torch.optim.Muon(matrices, lr=lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
        )
    return result


def check_finite(loss: Tensor, what: str, lr_key: str = "") -> None:
    """Raise `NonFinite` before the backward pass of a loss that is not finite.

    Args:
        loss: Of a step or a part of it.
        what: Its name.
        lr_key: The recipe's key of the learning rate, for the message.
    """
    if not torch.isfinite(loss):
        raise NonFinite(f"{what} is {loss.item()}: the update was not made; {_lower_rate(lr_key)}")


def _lower_rate(lr_key: str) -> str:
    """Say what helps: in its own folder a run is refused with another configuration."""
    if not lr_key:
        return "try a lower learning rate"
    return f"begin again with a lower {lr_key} in a new --out folder"
