"""The protocol of a decoder objective: it draws redraws, and gives the loss of what was drawn.

    latents, rollout = objective.draw(policy, start)
    loss, measured = objective.loss(policy, rollout, feedback)
    metrics = objective.metrics([measured, ...], rounding=0.0)

An objective sees the decoder as a `Policy` alone. `rl/decoder/table.py` names the objectives;
`docs/extend.md` adds one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from uae.flow.ode import Velocity

RolloutT = TypeVar("RolloutT")
MeasuredT = TypeVar("MeasuredT")


@dataclass(frozen=True, slots=True)
class Policy:
    """The decoder, bound to the conditions of one micro-batch.

    Attributes:
        velocity: v_theta(x, sigma); carries the gradient.
        reference: The same of the decoder before RL; without gradient.
    """

    velocity: Velocity
    reference: Velocity


@dataclass(frozen=True, slots=True)
class Start:
    """The start of a micro-batch of redraws.

    Attributes:
        noise: Where sampling starts.
        sigmas: Noise levels of the sampler, from 1 to 0.
        group_id: Equal for the redraws of one caption.
        rows: Places of the redraws in the step. Draws that depend on (seed, step, row) alone do not
            depend on the size of a micro-batch.
        seed: Of the run.
        step: Of the stage.
    """

    noise: Float[Tensor, " n *latent"]
    sigmas: Float[Tensor, " t"]
    group_id: Int[Tensor, " n"]
    rows: range
    seed: int
    step: int


@dataclass(frozen=True, slots=True)
class Feedback:
    """The worth of a micro-batch of redraws, compared with the others of their captions.

    Attributes:
        advantages: 0 where not kept.
        kept: False for a redraw that must not reach the loss.
        num_kept: Kept redraws of the whole step, at least 1: the divisor, so that the losses of
            micro-batches add up to the loss of the step.
    """

    advantages: Float[Tensor, " n"]
    kept: Bool[Tensor, " n"]
    num_kept: int


@runtime_checkable
class DecoderObjective(Protocol[RolloutT, MeasuredT]):
    """One way to compare the redraws of a caption; made of its settings and the shared ones."""

    @property
    def shares_start(self) -> bool:
        """Whether all redraws of a caption start from one noise."""
        ...

    def draw(self, policy: Policy, start: Start) -> tuple[Float[Tensor, " n *latent"], RolloutT]:
        """Draw the latents of a micro-batch without gradients; also what `loss` needs of them."""
        ...

    def loss(
        self, policy: Policy, rollout: RolloutT, feedback: Feedback
    ) -> tuple[Float[Tensor, ""], MeasuredT]:
        """Return a micro-batch's share of the step's loss, and what `metrics` is made of.

        Args:
            policy: Learns; at first it is the one that drew.
            rollout: From `draw`.
            feedback: Of its redraws.
        """
        ...

    def metrics(self, measured: Sequence[MeasuredT], *, rounding: float | None) -> dict[str, float]:
        """Return the metrics of an update, as they are logged.

        Args:
            measured: Of all micro-batches of the update.
            rounding: Before the first update of a rollout, where an objective can check what must
                hold as long as the weights are those that drew: relative precision of velocities
                computed twice, 0 to the bit. None after it.

        Raises:
            RunFailed: That does not hold; the update is not made.
        """
        ...
