"""The keys of a target that every provider has; a provider's own stand beside its declaration."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from slmcompile.metrics import METRICS
from slmcompile.providers import PROVIDERS
from slmcompile.registry.markers import NameIn
from slmcompile.registry.scalars import Identifier
from slmcompile.registry.section import Section

ProviderName = Annotated[
    str,
    NameIn(PROVIDERS),
    Field(description="What runs it: a provider of ONNX Runtime, or another runtime."),
]

AUTO = "auto"
"""The precision of a target that is chosen among candidates by its budget."""

MOST_CANDIDATES = 8

Candidate = dict[Identifier, bool | int | float | str]
"""Keys of a target that a candidate gives; what runs it is the target's."""

OF_THE_CHOICE = frozenset({"adapters", "budget", "candidates", "train_over"})
"""Keys that say how a target comes to what is built, and nothing of what that is."""

_OF_NO_CANDIDATE = OF_THE_CHOICE | {"execution_provider"}
"""Keys that no candidate has of its own."""

_TRAINED_OVER = "over-"
"""What stands before the name of a candidate whose base is trained over, in that of the other."""


class Budget(Section):
    """What the choice among a target's candidates must hold, on rows of the validation split."""

    metric: Annotated[str, NameIn(METRICS)] | None = Field(
        None,
        description="By which a candidate is held against torch: one of eval.metrics. null is the"
        " first of those that tells that answers are right.",
    )
    max_drop: float | None = Field(
        None,
        ge=0,
        description="Largest loss against the torch model, in the metric's own unit; null is 3"
        " points (0.03; of a metric of 0 to 100, 3).",
    )
    max_size: float | None = Field(
        None, gt=0, description="Largest folder, in MB (10⁶ bytes); null is any size."
    )
    min_tokens_per_s: float | None = Field(
        None,
        gt=0,
        description="Least tokens a second of one answer at a time, on the machine that chooses:"
        " another may choose otherwise. null measures no speed.",
    )
    limit: int | None = Field(
        256,
        ge=1,
        description="Rows of the validation split that torch and every candidate answer, a sample"
        " as of eval.limit; null takes all.",
    )


class Target(Section):
    """One exported artifact: what runs it, and a precision."""

    execution_provider: ProviderName
    precision: str = Field(description="Type of the exported weights.")
    adapters: Literal["merged", "beside"] | None = Field(
        None,
        description="merged: an adapter becomes part of the weights, which are quantised after it."
        " beside: it stays in floating point beside weights that hold the base alone, and several"
        " adapters share one base in one folder. null: beside where train.over is given, which"
        " allows no other, and otherwise merged.",
    )
    budget: Budget | None = Field(
        None,
        description="precision auto only: what the smallest candidate that is chosen must hold.",
    )
    candidates: dict[Identifier, Candidate] = Field(
        default_factory=dict,
        max_length=MOST_CANDIDATES,
        description="precision auto only: what is chosen among, by names of your own:"
        " {small: {precision: int4, int4_block_size: 128}}. Left out, these are the provider's.",
    )
    train_over: Identifier | None = Field(
        None,
        description="precision auto only: the candidate over whose base an adapter of its own is"
        " trained, which stands beside it and is one more candidate: over-NAME. It costs one more"
        " training, and may be chosen where what is merged loses too much. null trains once.",
    )

    @model_serializer(mode="wrap")
    def _as_given(self, rest: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is not asked for: a spec that says nothing of it stays as it was."""
        found: dict[str, Any] = rest(self)
        absent = {key for key in OF_THE_CHOICE if not getattr(self, key)}
        absent |= {
            key
            for key in self.said_if_other
            if getattr(self, key) == type(self).model_fields[key].default
        }
        return {key: value for key, value in found.items() if key not in absent}

    @model_validator(mode="after")
    def _chosen_or_given(self) -> Target:
        wrong = [*self._wrong()]
        if wrong:
            raise ValidationError.from_exception_data(type(self).__name__, wrong)
        return self

    @property
    def is_auto(self) -> bool:
        """Whether its precision is chosen."""
        return self.precision == AUTO

    @property
    def among(self) -> dict[str, Target]:
        """What is chosen among, by name; none of a target whose precision is given."""
        if not self.is_auto:
            return {}
        listed = self.candidates or PROVIDERS[self.execution_provider].candidates
        found = {name: self._with(keys) for name, keys in listed.items()}
        if self.train_over in found:
            beside = {**listed[self.train_over], "adapters": "beside"}
            found[f"{_TRAINED_OVER}{self.train_over}"] = self._with(beside)
        return found

    @property
    def trained_for(self) -> dict[str, Target]:
        """Those of them, one at most, that have a training of their own over their own base."""
        return {name: each for name, each in self.among.items() if each.adapters == "beside"}

    @property
    def built(self) -> list[Target]:
        """What is built of it: each candidate, or itself."""
        return [*self.among.values()] or [self]

    def _with(self, keys: Mapping[str, Any]) -> Target:
        values = {"execution_provider": self.execution_provider, **keys}
        return type(self).model_validate_json(json.dumps(values))

    def _wrong(self) -> Iterator[InitErrorDetails]:
        """What disagrees among the keys of a choice, each with its place."""
        if not self.is_auto:
            for key in ("budget", "candidates", "train_over"):
                if getattr(self, key):
                    yield _disagrees(
                        (key,),
                        "is of a target whose precision is chosen, and it is given",
                        f"set precision: auto, or take {key} out",
                    )
            return
        if self.adapters == "beside":
            yield _disagrees(
                ("adapters",),
                "is beside, and candidates of precision auto are merged",
                "take adapters out, or give a precision",
            )
        for name, keys in self.candidates.items():
            for key in sorted(_OF_NO_CANDIDATE & {*keys}):
                mend = "say it once, in the target"
                yield _disagrees(("candidates", name, key), "is the target's", mend)
            if keys.get("precision") == AUTO:
                mend = "give it a precision"
                yield _disagrees(("candidates", name, "precision"), "is to be chosen", mend)
            elif not _OF_NO_CANDIDATE & {*keys}:
                try:
                    self._with(keys)
                except ValidationError as error:
                    yield from _below(("candidates", name), error)


def _disagrees(at: tuple[str | int, ...], what: str, mend: str) -> InitErrorDetails:
    return InitErrorDetails(
        type=PydanticCustomError("keys_disagree", what, {"mend": mend}), loc=at, input={}
    )


def _below(at: tuple[str | int, ...], error: ValidationError) -> Iterator[InitErrorDetails]:
    """What is wrong in a section, as something wrong in the one that holds it."""
    for each in error.errors():
        yield InitErrorDetails(
            type=each["type"],
            loc=(*at, *each["loc"]),
            input=each["input"],
            ctx=each.get("ctx", {}),
        )
