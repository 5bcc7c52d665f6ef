"""Cross entropy at the trained positions only.

Most positions of a row are prompt or padding; the language-model head over a vocabulary of tens
of thousands is the largest product of a small model. So the decoder runs on the whole batch, the
hidden states whose next token is trained are gathered, and only these meet the head.

Knows batches and causal language models; knows nothing of adapters or optimizers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from slmcompile.shapes.sizes import LOGITS_AT_ONCE
from slmcompile.training.batches import Batch
from slmcompile.training.fused_elementwise import wide_dtype


class FrozenHeadLoss(torch.autograd.Function):
    """Cross entropy of each position through a frozen head, a chunk of positions at a time.

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
    ) -> torch.Tensor:
        """Takes hidden [trained, width], weight [vocabulary, width], targets [trained].

        Returns:
            nats [trained], in fp32, or fp64 of a model in that.
        """
        wants_grad = ctx.needs_input_grad[0]
        grad = torch.zeros_like(hidden) if wants_grad else hidden
        losses = hidden.new_empty(hidden.shape[0], dtype=wide_dtype(hidden.dtype))
        size = max(1, LOGITS_AT_ONCE // weight.shape[0])
        for start in range(0, hidden.shape[0], size):
            part = slice(start, start + size)
            logits = functional.linear(hidden[part], weight, bias).to(losses.dtype)
            chosen = targets[part].unsqueeze(1)
            log_probs = torch.log_softmax(logits, dim=-1)
            torch.neg(log_probs.gather(1, chosen).squeeze(1), out=losses[part])
            if wants_grad:
                slope = log_probs.exp_()
                slope.scatter_add_(1, chosen, torch.full_like(chosen, -1, dtype=slope.dtype))
                torch.mm(slope.to(hidden.dtype), weight, out=grad[part])
        if wants_grad:
            ctx.save_for_backward(grad)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_losses: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradient of hidden; the head is frozen."""
        (grad,) = ctx.saved_tensors
        return grad * grad_losses.to(grad.dtype).unsqueeze(1), None, None, None


_frozen_head_loss: Callable[..., torch.Tensor] = FrozenHeadLoss.apply  # untyped in torch


class TrainedPositionLoss:
    """Cross entropy in nats of each of a batch's trained positions.

    Args:
        model: a causal language model of transformers (adapters may be injected into it).
        device: where it is.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model = model
        self._device = device
        self._head = model.get_output_embeddings()
        self.fused = self._head_is_plain() and self._head_is_all()

    def __call__(self, batch: Batch) -> torch.Tensor:
        """[trained] in fp32, or fp64 of a model in that, with a gradient."""
        if not self.fused:
            return self._through_model(batch)
        hidden = self._decode(batch.input_ids, position_ids=batch.position_ids)[0]
        trained = hidden.index_select(0, batch.positions)
        return _frozen_head_loss(trained, self._head.weight, self._head.bias, batch.targets)

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
        """The model's own forward, its head fed the gathered positions by a hook."""

        def gather(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            flat = inputs[0].flatten(0, 1)
            return (flat.index_select(0, batch.positions).unsqueeze(0), *inputs[1:])

        hook = self._head.register_forward_pre_hook(gather)
        try:
            logits = self._model(
                input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False
            ).logits[0]
        finally:
            hook.remove()
        return functional.cross_entropy(
            logits.to(wide_dtype(logits.dtype)), batch.targets, reduction="none"
        )
