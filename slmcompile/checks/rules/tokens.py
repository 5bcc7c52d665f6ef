"""Rules over token ids: what is trained, where an answer ends, what serving sends."""

from __future__ import annotations

from slmcompile.base.facts import ModelFacts
from slmcompile.checks.registry import Verdict, check, proved, refuted
from slmcompile.checks.rules.undecided import needs_rows
from slmcompile.console.errors import Exit
from slmcompile.facts.context import CheckContext
from slmcompile.templates import TEMPLATES


def _template(context: CheckContext) -> str:
    """Where the key lies that writes the prompt, or the templates of several sources do."""
    parts = context.recipe.data.parts
    if len(parts) > 1:
        return context.at("data.sources")
    key = f"data.template.{TEMPLATES[parts[0].template.type].prompt}"
    return context.at(parts[0].key(key))


@check(
    2,
    "trained-tokens",
    "a row without a trained token costs time and teaches nothing, while the loss looks perfect",
    needs=("T", "D"),
    code=Exit.BAD_DATA,
)
def trained_tokens(context: CheckContext) -> Verdict:
    """Every row keeps a trained token."""
    if context.data is None:
        return needs_rows(context)
    facts = context.data.facts
    if facts.least_trained < 1:
        return refuted(
            f"{facts.least_trained_at}: no token of the row is trained",
            "fill its answer in, or raise data.max_length",
            _template(context),
        )
    rows = sum(context.data.rows.values())
    return proved(f"at least {facts.least_trained} trained tokens in each of {rows} rows")


@check(
    3,
    "label-mask",
    "the wrong tokens are trained: the prompt, half the answer, or nothing",
    needs=("T", "D"),
    code=Exit.BAD_DATA,
)
def label_mask(context: CheckContext) -> Verdict:
    """The trained tokens decode to the answer and the stop token, exactly."""
    if context.data is None:
        return needs_rows(context)
    facts, rows = context.data.facts, sum(context.data.rows.values())
    if facts.mask_differs:
        return refuted(
            f"{facts.mask_differs} of {rows} rows train other text than their answer,"
            f" first {facts.mask_differs_at}",
            "use data.template.type=text, and write the text as the tokenizer does (Unicode NFC)",
            _template(context),
        )
    return proved(f"the trained tokens of all {rows} rows decode to answer and stop token")


@check(
    4,
    "stop-token",
    "the model never learnt to stop, or the runtime does not stop where it learnt to",
    needs=("T", "D", "C", "H"),
    code=Exit.BAD_DATA,
)
def stop_token(context: CheckContext) -> Verdict:
    """The stop token is trained in every row and ends generation; padding does not mask it."""
    if context.data is None or context.model is None:
        return needs_rows(context)
    facts, rows = context.data.facts, sum(context.data.rows.values())
    stop = context.data.report["stop"]
    shown = f"{stop['text']} ({stop['id']})"
    if facts.stop_trained < rows:
        masked = ", the padding token too" if facts.pad_id == stop["id"] else ""
        return refuted(
            f"the stop token {shown}{masked} is trained in {facts.stop_trained} of {rows} rows",
            "end every answer with it; padding must be masked by position, not by token",
            _template(context),
        )
    ends = _ends(context, context.model)
    every = [stop, *(each["stop"] for each in context.data.report.get("sources", ()))]
    for stop in every:
        if stop["id"] in ends or stop["text"] in ends:
            continue
        shown = f"{stop['text']} ({stop['id']})"
        return refuted(
            f"answers end with {shown}, generation stops at {ends} ({context.model.where})",
            f"add {stop['id']} to eos_token_id in its generation_config.json,"
            " or use data.template.type=text",
            _template(context),
        )
    padding = "; it pads too, masked by position" if facts.pad_id == stop["id"] else ""
    return proved(f"{shown} ends every trained answer and stops generation{padding}")


def _ends(context: CheckContext, model: ModelFacts) -> list[int | str]:
    """What ends generation: token ids, and the text of the token that the base stage adds."""
    listed = model.generation.get("eos_token_id", model.config.get("eos_token_id"))
    ends = listed if isinstance(listed, list) else [] if listed is None else [listed]
    fetched = context.plan is None or model.where == context.plan.stage("base").out
    own = model.tokenizer.get("eos_token")
    own = own.get("content") if isinstance(own, dict) else own
    return [*ends, own] if own and not fetched else [*ends]


@check(
    5,
    "same-ids",
    "the model is served other tokens than it was trained on, and answers worse than measured",
    needs=("T", "D"),
    code=Exit.BAD_DATA,
)
def same_ids(context: CheckContext) -> Verdict:
    """Training, ``prompt.json`` and an exported folder give the same ids for the same text."""
    if context.data is None:
        return needs_rows(context)
    same = context.data.facts.same_ids
    if same.differs:
        return refuted(
            same.differs,
            "use data.template.type=text, without white space that a chat template trims",
            _template(context),
        )
    return proved(
        f"{same.prompts} prompts tokenized as in training and in an exported folder,"
        f" {same.served} also through prompt.json: the same ids"
    )


@check(
    16,
    "doubled-specials",
    "template and tokenizer both write BOS or EOS, which no pretrained model has seen twice",
    needs=("T", "D"),
    code=Exit.BAD_DATA,
)
def doubled_specials(context: CheckContext) -> Verdict:
    """No row holds two BOS or two EOS tokens side by side."""
    if context.data is None:
        return needs_rows(context)
    facts, rows = context.data.facts, sum(context.data.rows.values())
    for name, count in facts.doubled.items():
        if count:
            return refuted(
                f"{count} of {rows} rows hold {name} twice in a row, first {facts.doubled_at}",
                "take the token out of the template or the text; it is added once",
                _template(context),
            )
    return proved(f"no doubled BOS or EOS in {rows} rows")
