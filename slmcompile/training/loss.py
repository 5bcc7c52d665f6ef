"""Trained positions alone meet the language-model head, and a loss is made of what it says.

Most positions of a row are prompt or padding; the language-model head over a vocabulary of tens
of thousands is the largest product of a small model. So the decoder runs on the whole batch, the
hidden states whose next token is trained are gathered, and only these meet the head.

Knows batches and causal language models; knows nothing of adapters or optimizers, nor which losses
there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from slmcompile.shapes.sizes import LOGITS_AT_ONCE, WIDE_AT_ONCE
from slmcompile.training.batches import Batch
from slmcompile.training.fused_elementwise import wide_dtype
from slmcompile.training.losses.positions import Positions
from slmcompile.training.losses.program import OfChunk, Trained
from slmcompile.training.scratch import Scratch


class FrozenHeadLoss(torch.autograd.Function):
    """The loss of each position through a frozen head, a chunk of positions at a time.

    The gradient of a chunk's logits is at hand as soon as its loss is, so backward holds only the
    gradient of the hidden states, not the logits (as in Liger kernel, arXiv:2410.10989). Each
    position's is scaled by the gradient of its own loss, so what counts how much is decided behind
    this function.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        of_chunk: OfChunk | None = None,
        scratch: Scratch | None = None,
    ) -> torch.Tensor:
        """Takes hidden [trained, width], weight [vocabulary, width], targets [trained].

        Args:
            ctx: of torch.
            hidden: states of the trained positions.
            weight: of the head.
            bias: of the head.
            targets: tokens to predict.
            of_chunk: the loss; cross entropy where it is not given.
            scratch: for the logits; a fresh one where it is not given.

        Returns:
            the losses [trained], in fp32, or fp64 of a model in that; of cross entropy in nats.
        """
        scratch = scratch or Scratch()
        of_chunk = of_chunk or _CrossEntropy(targets, scratch)
        wants_grad = ctx.needs_input_grad[0]
        grad = torch.zeros_like(hidden) if wants_grad else hidden
        losses = hidden.new_empty(hidden.shape[0], dtype=wide_dtype(hidden.dtype))
        vocabulary = weight.shape[0]
        size = max(1, LOGITS_AT_ONCE // vocabulary)
        few = max(1, min(LOGITS_AT_ONCE, WIDE_AT_ONCE) // vocabulary)
        for start in range(0, hidden.shape[0], size):
            part = slice(start, start + size)
            read = hidden[part]
            shape = len(read), vocabulary
            logits = torch.mm(read, weight.t(), out=scratch.of("logits", shape, hidden))
            if bias is not None:
                logits += bias
            # In fp32 only as many as the caches hold; their slope takes the place of the logits.
            for first in range(0, len(read), few):
                own = logits[first : first + few]
                place = slice(start + first, start + first + len(own))
                wide = scratch.of("logits wide", tuple(own.shape), hidden, losses.dtype)
                losses[place], slope = of_chunk(wide.copy_(own), place, wants_grad)
                if wants_grad:
                    own.zero_() if slope is None else own.copy_(slope)
            if wants_grad:
                torch.mm(logits, weight, out=grad[part])
        if wants_grad:
            ctx.save_for_backward(grad)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_losses: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradient of hidden; the head is frozen."""
        (grad,) = ctx.saved_tensors
        return grad * grad_losses.to(grad.dtype).unsqueeze(1), *[None] * 5


class _CrossEntropy:
    """-log p of the targets; an ``OfChunk``."""

    def __init__(self, targets: torch.Tensor, scratch: Scratch) -> None:
        self._targets, self._scratch = targets, scratch

    def __call__(
        self, logits: torch.Tensor, part: slice, wanted: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        chosen = self._targets[part].unsqueeze(1)
        log_probs = self._scratch.of("log probabilities", tuple(logits.shape), logits)
        torch.log_softmax(logits, dim=-1, out=log_probs)
        nats = log_probs.gather(1, chosen).squeeze(1).neg_()
        if not wanted:
            return nats, None
        slope = log_probs.exp_()
        ones = torch.full_like(chosen, -1, dtype=slope.dtype)
        return nats, slope.scatter_add_(1, chosen, ones)


class _LogitsLoss(torch.autograd.Function):
    """The loss of each position by its logits, where a model has more than a head behind them."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, of_chunk: OfChunk) -> torch.Tensor:
        """Takes logits [trained, vocabulary]; returns losses [trained] in their dtype."""
        wanted = ctx.needs_input_grad[0]
        losses, slope = of_chunk(logits.clone(), slice(0, logits.shape[0]), wanted)
        if slope is not None:
            ctx.save_for_backward(slope)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_losses: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradient of the logits."""
        (slope,) = ctx.saved_tensors
        return slope * grad_losses.unsqueeze(1), None


# Untyped in torch.
_frozen_head_loss: Callable[..., torch.Tensor] = FrozenHeadLoss.apply
_logits_loss: Callable[..., torch.Tensor] = _LogitsLoss.apply


@dataclass(frozen=True)
class _BeforeHead:
    """Hidden states that have yet to meet a frozen head; a ``Trained``."""

    targets: torch.Tensor
    positions: Positions
    hidden: torch.Tensor
    head: nn.Linear
    scratch: Scratch

    def cross_entropy(self) -> torch.Tensor:
        head = self.head
        return _frozen_head_loss(
            self.hidden, head.weight, head.bias, self.targets, None, self.scratch
        )

    def by_chunk(self, of_chunk: OfChunk) -> torch.Tensor:
        head = self.head
        return _frozen_head_loss(
            self.hidden, head.weight, head.bias, self.targets, of_chunk, self.scratch
        )

    def logits(self) -> torch.Tensor:
        found = functional.linear(self.hidden, self.head.weight, self.head.bias)
        return found.to(wide_dtype(found.dtype))


@dataclass(frozen=True)
class _BehindModel:
    """Logits that a model has made by its own forward; a ``Trained``."""

    targets: torch.Tensor
    positions: Positions
    found: torch.Tensor

    def cross_entropy(self) -> torch.Tensor:
        return functional.cross_entropy(self.logits(), self.targets, reduction="none")

    def by_chunk(self, of_chunk: OfChunk) -> torch.Tensor:
        return _logits_loss(self.logits(), of_chunk)

    def logits(self) -> torch.Tensor:
        return self.found.to(wide_dtype(self.found.dtype))


class TrainedPositionLoss:
    """What a model says at each of a batch's trained positions, and the cross entropy of that.

    Args:
        model: a causal language model of transformers (adapters may be injected into it).
        device: where it is.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model = model
        self._device = device
        self._head = model.get_output_embeddings()
        self._scratch = Scratch()
        self.fused = self._head_is_plain() and self._head_is_all()

    def __call__(self, batch: Batch) -> torch.Tensor:
        """Cross entropy in nats, [trained] in fp32, or fp64 of a model in that, with a gradient."""
        if not self.fused:
            logits = self._through_model(batch)
            wide = logits.to(wide_dtype(logits.dtype))
            return functional.cross_entropy(wide, batch.targets, reduction="none")
        hidden, head = self._hidden(batch), self._head
        return _frozen_head_loss(hidden, head.weight, head.bias, batch.targets, None, self._scratch)

    def of(self, batch: Batch) -> Callable[[slice, Positions], Trained]:
        """The same positions for other losses: those of a part of the batch, and whose they are."""
        if self.fused:
            hidden = self._hidden(batch)
            return lambda part, whose: _BeforeHead(
                batch.targets[part], whose, hidden[part], self._head, self._scratch
            )
        found = self._through_model(batch)
        return lambda part, whose: _BehindModel(batch.targets[part], whose, found[part])

    def _hidden(self, batch: Batch) -> torch.Tensor:
        """States [trained, width] of a batch's trained positions."""
        hidden = self._decode(batch.input_ids, position_ids=batch.position_ids)[0]
        return hidden.index_select(0, batch.positions)

    def _decode(self, input_ids: torch.Tensor, **places: torch.Tensor) -> torch.Tensor:
        decoder = self._model.get_decoder()
        found = decoder(input_ids=input_ids, use_cache=False, **places)
        hidden: torch.Tensor = found.last_hidden_state
        return hidden

    def _head_is_plain(self) -> bool:
        head = self._head
        return type(head) is nn.Linear and not any(p.requires_grad for p in head.parameters())

    def _head_is_all(self) -> bool:
        """Whether logits are head(decoder(x)) and nothing more, proved on two tokens.

        Some families cap or scale them afterwards (Gemma 2, Granite, Cohere).
        """
        mode = self._model.training
        self._model.eval()
        with torch.no_grad():
            # Ids 1 and 2: a padding id 0 may have a zero embedding, which would prove nothing.
            tokens = torch.tensor([[1, 2]], device=self._device)
            whole = self._model(input_ids=tokens, use_cache=False).logits
            parts = self._head(self._decode(tokens))
        self._model.train(mode)
        return bool(torch.equal(whole, parts))

    def _through_model(self, batch: Batch) -> torch.Tensor:
        """Logits [trained, vocabulary] by the model's own forward.

        Its head is fed the gathered positions by a hook.
        """

        def gather(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            flat = inputs[0].flatten(0, 1)
            return (flat.index_select(0, batch.positions).unsqueeze(0), *inputs[1:])

        hook = self._head.register_forward_pre_hook(gather)
        try:
            found = self._model(
                input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False
            )
        finally:
            hook.remove()
        logits: torch.Tensor = found.logits[0]
        return logits
