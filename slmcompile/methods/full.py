"""Full fine-tuning: every weight of the base model moves."""

from __future__ import annotations

from slmcompile.methods.keys import MethodName, Train
from slmcompile.methods.method import MemoryTerms, Method
from slmcompile.shapes.architecture import Architecture, Trainable


class FullTrain(Train):
    """All weights are trained; their masters are the base's own weights in fp32."""

    method: MethodName = "full"


def trainable(_train: FullTrain, model: Architecture) -> Trainable:
    """All of them."""
    return Trainable((), 0, 0, model.parameters)


USUAL_RATE = (1e-6, 1e-3)
"""From 5e-6 for 175 billion parameters (InstructGPT, arXiv:2203.02155, appendix C) to 1e-3 for 135
million (huggingface/alignment-handbook, recipes/smollm2/sft/config_smol.yaml)."""

ENTRIES = (
    Method(
        name="full",
        title="all weights",
        section=FullTrain,
        program="slmcompile.training.methods.full:FULL",
        writes="model",
        packages=("torch", "transformers"),
        usual_rate=USUAL_RATE,
        trainable=trainable,
        memory=MemoryTerms(
            base=lambda _train, model: model.parameters * 4.0,
            read_as=lambda _: "F32",
            # Norms are trained and so not fused: each keeps its normed stream too.
            kept=lambda _train, hidden: 2.0 * hidden,
        ),
        made_one="",
        alone=lambda _: "the method full moves the weights of the base model",
    ),
)
