"""Trains adapters or all weights: the program that reads from top to bottom.

A loop of our own rather than ``transformers.Trainer``, which writes checkpoints in place, resumes
in silence without an optimizer, logs NaN as 0.0, and runs the language-model head at every
position. Not on ``accelerate`` either: on one process its backward and clip are torch's own calls
behind a dispatch, it would own the device and the global RNG state, and it cannot sum the
gradients of bf16 copies in fp32 masters.

Knows a folder for each of its inputs and outputs; knows nothing of stages, DVC or trackers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from slmcompile.console.errors import MissingError, StageFailedError
from slmcompile.console.progress import Progress
from slmcompile.machine.process import thread_count
from slmcompile.machine.signals import StopRequest, stop_on_signals
from slmcompile.methods.early_stopping import stopped_sentence
from slmcompile.models.base_model import import_libraries
from slmcompile.training import kept
from slmcompile.training.checkpoints import Checkpoints
from slmcompile.training.clock import Clock
from slmcompile.training.determinism import deterministic
from slmcompile.training.group import Group, Member, open_group
from slmcompile.training.learner import Learner
from slmcompile.training.phase_memory import PhaseMemory
from slmcompile.training.record import CurvePoint, TrainingRecord, TrainRuntime
from slmcompile.training.recorded import recorded

OnLog = Callable[[int, dict[str, float]], None]


def train(
    member: Member,
    base: Path,
    runtime: TrainRuntime,
    progress: Progress,
    on_log: OnLog,
    device: torch.device,
) -> TrainingRecord:
    """Trains one set of weights; see ``train_together``."""
    return train_together([member], base, runtime, progress, on_log, device)[member.name]


def train_together(
    members: Sequence[Member],
    base: Path,
    runtime: TrainRuntime,
    progress: Progress,
    on_log: OnLog,
    device: torch.device,
    *,
    isolated: bool = False,
    over: Path | None = None,
) -> dict[str, TrainingRecord]:
    """Trains as ``config.method`` says, all members in one pass over the base, and writes them.

    Args:
        members: the one of a plain recipe, or those of a group.
        base: config.json, ``*.safetensors`` and tokenizer files of the base model.
        runtime: settings that cannot change a result.
        progress: told where the run is.
        on_log: called with a step and its figures, every ``logging_steps`` steps and at every
            validation; never influences a result.
        device: where the model is trained.
        isolated: each member has a forward pass of its own, so that its bytes do not depend on
            who else is there.
        over: quantised ONNX base whose weights are trained over, in place of the base's own.

    Returns:
        What there is to tell of each, by name.

    Raises:
        BadDataError: rows that cannot be trained (exit 65).
        BadRecipeError: a module name that the base model does not have (exit 78).
        CorruptError: base model unreadable, or a checkpoint of another run (exit 74).
        MissingError: disk full, folder not writable or memory short (exit 69).
        StageFailedError: a loss or gradient became NaN or infinite (exit 1). The other members of
            a group are trained to their end and kept in their scratch folders.
        SlmcompileError: SIGINT or SIGTERM, after a checkpoint (exit 130, 143).
    """
    records = {each.name: kept.record(each, progress) for each in members}
    # What two members learn alike is learnt once, whatever they are called.
    once = {each.identity: each for each in reversed(members)}
    left = [each for each in members if records[each.name] is None and once[each.identity] is each]
    if left:
        records |= _train(left, members, base, over, runtime, progress, on_log, device, isolated)
    for each in members:
        records[each.name] = records[each.name] or records[once[each.identity].name]
        kept.put_into_place(each)
    return {name: record for name, record in records.items() if record}


def _train(
    left: Sequence[Member],
    members: Sequence[Member],
    base: Path,
    over: Path | None,
    runtime: TrainRuntime,
    progress: Progress,
    on_log: OnLog,
    device: torch.device,
    isolated: bool,
) -> dict[str, TrainingRecord]:
    """Trains those who are left, to the end of each."""
    common = left[0].config
    threads = thread_count(common.num_threads)
    import_libraries()
    memory = PhaseMemory()
    memory.note("before_model")
    with deterministic(common.seed, threads, device), stop_on_signals() as stop:
        with memory.phase("loading"):
            group = open_group(left, base, device, isolated=isolated, over=over)
            checkpoints = Checkpoints(group, members, runtime, progress)
        run = _Run(group, checkpoints, memory, threads, runtime, stop, progress, on_log)
        try:
            return run.to_its_end()
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(group) from error
        except RuntimeError as error:
            # torch 2.13 reports a failed CPU allocation as a plain RuntimeError.
            if "can't allocate memory" not in str(error):
                raise
            raise _out_of_memory(group) from error


class _Run:
    """Steps, validations and checkpoints, from wherever the learners are to their ends.

    A validation that is due comes before the checkpoint of the same step, and is made after a
    resumption if it was cut short: so an interrupted run makes the same ones.
    """

    def __init__(
        self,
        group: Group,
        checkpoints: Checkpoints,
        memory: PhaseMemory,
        threads: int,
        runtime: TrainRuntime,
        stop: StopRequest,
        progress: Progress,
        on_log: OnLog,
    ) -> None:
        self._group = group
        self._session = group.session
        self._checkpoints = checkpoints
        self._memory = memory
        self._threads = threads
        self._runtime = runtime
        self._stop = stop
        self._progress = progress
        self._on_log = on_log
        self._clock = Clock()
        self._records: dict[str, TrainingRecord] = {}
        self._told: set[str] = set()

    def to_its_end(self) -> dict[str, TrainingRecord]:
        """A record of each learner; raises what ``train_together`` does."""
        learners, checkpoints = self._session.learners, self._checkpoints
        with self._memory.phase("loading"):
            checkpoints.resume(self._clock)
        self._progress.begin("step", max(each.schedule.max_steps for each in learners))
        while True:
            self._validate()
            ended = [each for each in learners if each.done and not self._is_over(each)]
            # Nobody of a group is over before all others have a checkpoint of that moment.
            if self._stop or checkpoints.are_due or any(each.member for each in ended):
                with self._memory.phase("saving"):
                    checkpoints.save(self._clock)
            if self._stop:
                self._progress.end()
                raise self._stop.error(max(each.state.step for each in learners))
            for learner in ended:
                self._finish(learner)
            if not self._session.going:
                break
            with self._memory.phase("training"):
                self._session.train_step()
            checkpoints.cut += 1
            self._log()
        self._progress.end()
        self._tell_failures()
        return self._records

    def _is_over(self, learner: Learner) -> bool:
        return learner.member in self._records or learner.failed is not None

    def _validate(self) -> None:
        for learner in self._session.learners:
            if learner.failed or not learner.wants_validation:
                continue
            with self._memory.phase("validation"):
                found = self._session.validate(learner, self._stop)
            if found is not None:
                self._say_validation(learner, found)
                self._tell(learner, found)

    def _say_validation(self, learner: Learner, found: dict[str, float]) -> None:
        state, by = learner.state, learner.best_by
        whose = f"{learner.member}: " if learner.member else ""
        told = f"{whose}step {state.step}: validation loss {found['eval_loss']:.4f}"
        if learner.task_metric:
            told += f", {by.words} {found[f'eval_{by.metric}']:.4f}"
        self._progress.say(told)
        if learner.stopped_early:
            best = state.best_eval_loss if state.best_metric is None else state.best_metric
            planned = learner.schedule.max_steps
            sentence = stopped_sentence(by, state.step, planned, best or 0.0, state.best_step)
            self._progress.say(f"{whose}{sentence}")

    def _finish(self, learner: Learner) -> None:
        """Writes what it has learnt."""
        member = self._group.members[learner.member]
        with self._memory.phase("saving"), kept.place_of(member) as out:
            self._group.write(learner, out)
            record = recorded(
                learner,
                self._group,
                self._clock,
                self._memory,
                self._threads,
                self._checkpoints.resumed_from[learner.member],
            )
            kept.write_record(member, record, out)
        self._records[learner.member] = record

    def _log(self) -> None:
        every, moved = self._runtime.logging_steps, []
        for learner in self._session.learners:
            if learner.failed or not learner.state.curve or self._is_over(learner):
                continue
            moved.append(learner)
            point = learner.state.curve[-1]
            if point.step % every == 0 or learner.done:
                self._tell(
                    learner,
                    {
                        "loss": point.loss,
                        **_compared(point),
                        "learning_rate": point.learning_rate,
                        "grad_norm": point.grad_norm,
                        "epoch": point.epoch,
                        "tokens": float(point.tokens),
                        "tokens_per_second": point.tokens / point.seconds,
                    },
                )
        if moved and (self._checkpoints.cut % every == 0 or any(each.done for each in moved)):
            points = [each.state.curve[-1] for each in moved]
            losses = {each.member or "loss": each.state.curve[-1].loss for each in moved}
            # Those who have ended too: the time is that of all.
            far = [each.state.curve[-1] for each in self._session.learners if each.state.curve]
            speed = sum(p.tokens for p in far) / max(p.seconds for p in far)
            self._progress.step(max(p.step for p in points), **losses, **{"tokens/s": speed})
        self._say_failures()

    def _tell(self, learner: Learner, values: dict[str, float]) -> None:
        step = self._checkpoints.cut if learner.member else learner.state.step
        whose = f"{learner.member}/" if learner.member else ""
        self._on_log(step, {f"{whose}{name}": value for name, value in values.items()})

    def _say_failures(self) -> None:
        """Of a group's, once each; a plain recipe ends with its own."""
        for learner in self._session.learners:
            if learner.failed and learner.member not in self._told:
                if not learner.member:
                    raise learner.failed
                self._told.add(learner.member)
                self._progress.say(f"{learner.failed.what}; it is stopped, the others go on")

    def _tell_failures(self) -> None:
        """Raises what stopped a learner, when the others are done."""
        self._say_failures()
        failed = [each.failed for each in self._session.learners if each.failed]
        if failed:
            told = "; ".join(error.what.removeprefix("train: ") for error in failed)
            raise StageFailedError(
                f"train: {told}",
                f"{failed[0].mend}, or take it out of adapters; what the others have learnt is kept"
                " and not trained again",
            ) from failed[0]


def _compared(point: CurvePoint) -> dict[str, float]:
    """The cross entropy of a step that minimised something else."""
    return {} if point.cross_entropy is None else {"cross_entropy": point.cross_entropy}


def _out_of_memory(group: Group) -> MissingError:
    step = max(each.state.step for each in group.session.learners) + 1
    return MissingError(
        f"train: not enough memory at step {step}",
        "lower train.per_device_train_batch_size and raise train.gradient_accumulation_steps,"
        " or set train.gradient_checkpointing",
    )
