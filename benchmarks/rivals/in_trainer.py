"""The meter in ``transformers.Trainer``, whoever made it: Olive and TRL train by it, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rivals.job import Job
from rivals.meter import Meter


def metered(job: Job) -> Meter:
    """A meter that every ``Trainer`` of this process reports to; they save nothing themselves."""
    import transformers

    meter = Meter(job.save_at, Path(job.out))
    trainer: Any = transformers.Trainer

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            meter.begin()

        def on_step_end(self, *_: Any, **given: Any) -> None:
            folder = meter.step()
            if folder is not None:
                with meter.apart():
                    given["model"].save_pretrained(folder)

    own_train, own_step = trainer.train, trainer.training_step

    def train(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.add_callback(Clock())
        return own_train(self, *args, **kwargs)

    def training_step(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        with meter.apart():
            meter.count(*counted(inputs, job.begins))
        return own_step(self, model, inputs, *args, **kwargs)

    trainer.train, trainer.training_step = train, training_step
    return meter


def counted(inputs: Any, begins: list[int]) -> tuple[int, int, int, int]:
    """Real tokens, places, trained tokens and rows of a batch, joined or not."""
    ids, mask = inputs["input_ids"], inputs.get("attention_mask")
    tokens = ids.numel() if mask is None else int(mask.sum())
    trained = int((inputs["labels"][:, 1:] != -100).sum())
    width = ids.shape[1] - len(begins) + 1
    here = ids[:, :width] == begins[0]
    for number, each in enumerate(begins):
        here &= ids[:, number : number + width] == each
    return tokens, ids.numel(), trained, int(here.sum())
