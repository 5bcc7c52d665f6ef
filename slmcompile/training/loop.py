"""Trains an adapter or all weights: the program that reads from top to bottom.

A loop of our own rather than ``transformers.Trainer``, which writes checkpoints in place, resumes
in silence without an optimizer, logs NaN as 0.0, and runs the language-model head at every
position. Not on ``accelerate`` either: on one process its backward and clip are torch's own calls
behind a dispatch, it would own the device and the global RNG state, and it cannot sum the
gradients of bf16 copies in fp32 masters.

Knows a folder for each of its inputs and outputs; knows nothing of stages, DVC or trackers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from slmcompile.console.errors import MissingError
from slmcompile.console.progress import Progress
from slmcompile.machine.process import thread_count
from slmcompile.machine.signals import StopRequest, stop_on_signals
from slmcompile.methods import METHODS
from slmcompile.methods.keys import Train
from slmcompile.models.base_model import (
    DTYPES,
    checkpoint_activations,
    import_libraries,
)
from slmcompile.registry.table import program
from slmcompile.training import hot_path
from slmcompile.training.batches import read_rows
from slmcompile.training.checkpoint import CheckpointFolder
from slmcompile.training.determinism import deterministic
from slmcompile.training.learner import Learner
from slmcompile.training.master_weights import MasterWeights
from slmcompile.training.methods.protocol import MethodProgram
from slmcompile.training.phase_memory import PhaseMemory
from slmcompile.training.record import CurvePoint, TrainingRecord, TrainRuntime
from slmcompile.training.session import Session

OnLog = Callable[[int, dict[str, float]], None]


def train(
    config: Train,
    base: Path,
    data: Path,
    weights_out: Path,
    scratch: Path,
    runtime: TrainRuntime,
    progress: Progress,
    on_log: OnLog,
    device: torch.device,
) -> TrainingRecord:
    """Trains as ``config.method`` says and writes what was trained.

    Args:
        config: the recipe's train section.
        base: config.json, ``*.safetensors`` and tokenizer files of the base model.
        data: train.parquet and validation.parquet.
        weights_out: existing empty folder; written only when training has succeeded.
        scratch: checkpoints; survives kills, owned by this run, removed by the caller.
        runtime: settings that cannot change a result.
        progress: told where the run is.
        on_log: called with a step and its figures, every ``logging_steps`` steps and at every
            validation; never influences a result.
        device: where the model is trained.

    Raises:
        BadDataError: rows that cannot be trained (exit 65).
        BadRecipeError: a module name that the base model does not have (exit 78).
        CorruptError: base model unreadable, or a checkpoint of another run (exit 74).
        MissingError: disk full, folder not writable or memory short (exit 69).
        StageFailedError: loss or gradient became NaN or infinite (exit 1).
        SlmcompileError: SIGINT or SIGTERM, after a checkpoint (exit 130, 143).
    """
    clock = _Clock()
    threads = thread_count(config.num_threads)
    method: MethodProgram = program(METHODS[config.method].program)
    import_libraries()
    memory = PhaseMemory()
    memory.note("before_model")
    with deterministic(config.seed, threads, device), stop_on_signals() as stop:
        with memory.phase("loading"):
            session, model, fast_paths = _prepare(method, config, base, data, device)
        checkpoints = CheckpointFolder(
            scratch, runtime.identity, runtime.save_total_limit, progress
        )
        with memory.phase("loading"):
            resumed_from = _resume(session, checkpoints, clock, progress)
        try:
            _run(config, session, checkpoints, clock, memory, runtime, stop, progress, on_log)
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(session) from error
        except RuntimeError as error:
            # torch 2.13 reports a failed CPU allocation as a plain RuntimeError.
            if "can't allocate memory" not in str(error):
                raise
            raise _out_of_memory(session) from error
        learner = session.learner
        weights = learner.best or learner.weights.tensors()
        with memory.phase("saving"):
            method.write(model, weights, base, weights_out)
        return _record(session, model, fast_paths, clock, memory, threads, resumed_from)


def _prepare(
    method: MethodProgram, config: Train, base: Path, data: Path, device: torch.device
) -> tuple[Session, Any, dict[str, int]]:
    """Rows, model, what is trained and optimizer, as they are before the first step."""
    base_model = method.open(config, base, device)
    vocabulary = base_model.get_input_embeddings().weight.shape[0]
    longest = getattr(base_model.config, "max_position_embeddings", None)
    train_rows = read_rows(data, "train", vocabulary, longest)
    validation_rows = read_rows(data, "validation", vocabulary, longest)
    if config.gradient_checkpointing:
        checkpoint_activations(base_model)
    model = method.attach(base_model, config)
    weights = MasterWeights(model, DTYPES[config.precision])
    fast_paths = hot_path.install(base_model)
    learner = Learner(config, weights, train_rows, validation_rows)
    session = Session(base_model, learner, device)
    return session, model, {**fast_paths, "fused_head": int(session.fused_head)}


def _resume(
    session: Session, checkpoints: CheckpointFolder, clock: _Clock, progress: Progress
) -> int | None:
    checkpoint = checkpoints.newest()
    if checkpoint is None:
        return None
    session.restore(checkpoint)
    state = session.learner.state
    clock.add(state.cpu_seconds, state.wall_seconds)
    progress.say(f"going on from the checkpoint at step {checkpoint.step}")
    return checkpoint.step


def _run(
    config: Train,
    session: Session,
    checkpoints: CheckpointFolder,
    clock: _Clock,
    memory: PhaseMemory,
    runtime: TrainRuntime,
    stop: StopRequest,
    progress: Progress,
    on_log: OnLog,
) -> None:
    """Steps, validations and checkpoints, from wherever the session is to its last step.

    A validation that is due comes before the checkpoint of the same step, and is made after a
    resumption if it was cut short: so an interrupted run makes the same ones.
    """
    state, last = session.learner.state, session.learner.schedule.max_steps
    saved = state.step
    progress.begin("step", last)
    while True:
        due = state.step == last or (state.step > 0 and state.step % config.eval_steps == 0)
        if due and state.evaluated_step != state.step:
            with memory.phase("validation"):
                eval_loss = session.validate(stop)
            if eval_loss is not None:
                progress.say(f"step {state.step}: validation loss {eval_loss:.4f}")
                on_log(state.step, {"eval_loss": eval_loss})
        if state.step > saved and (stop or state.step % runtime.save_steps == 0):
            with memory.phase("saving"):
                checkpoints.save(session.checkpoint(clock.cpu(), clock.wall()))
            saved = state.step
        if stop:
            progress.end()
            raise stop.error(state.step)
        if state.step == last:
            break
        with memory.phase("training"):
            point = session.train_step()
        if point.step % runtime.logging_steps == 0 or point.step == last:
            _log(point, progress, on_log)
    progress.end()


def _log(point: CurvePoint, progress: Progress, on_log: OnLog) -> None:
    speed = point.tokens / point.seconds
    progress.step(point.step, **{"loss": point.loss, "tokens/s": speed})
    on_log(
        point.step,
        {
            "loss": point.loss,
            "learning_rate": point.learning_rate,
            "grad_norm": point.grad_norm,
            "epoch": point.epoch,
            "tokens": float(point.tokens),
            "tokens_per_second": speed,
        },
    )


def _out_of_memory(session: Session) -> MissingError:
    return MissingError(
        f"train: not enough memory at step {session.learner.state.step + 1}",
        "lower train.per_device_train_batch_size and raise train.gradient_accumulation_steps,"
        " or set train.gradient_checkpointing",
    )


class _Clock:
    """Processor and wall time of the run, those before a resumption included."""

    def __init__(self) -> None:
        self._cpu = -time.process_time()
        self._wall = -time.perf_counter()

    def add(self, cpu: float, wall: float) -> None:
        self._cpu += cpu
        self._wall += wall

    def cpu(self) -> float:
        return self._cpu + time.process_time()

    def wall(self) -> float:
        return self._wall + time.perf_counter()


def _record(
    session: Session,
    model: Any,
    fast_paths: dict[str, int],
    clock: _Clock,
    memory: PhaseMemory,
    threads: int,
    resumed_from: int | None,
) -> TrainingRecord:
    learner, state = session.learner, session.learner.state
    return TrainingRecord(
        curve=tuple(state.curve),
        best_step=state.best_step,
        best_eval_loss=float("inf") if state.best_eval_loss is None else state.best_eval_loss,
        saved_step=state.best_step if learner.best else state.step,
        train_loss_first=state.curve[0].loss,
        train_loss_last=state.curve[-1].loss,
        steps=state.step,
        epochs=learner.epochs,
        tokens=state.tokens,
        trained_tokens=state.trained_tokens,
        tokens_per_second=state.tokens / state.train_seconds,
        cpu_seconds=clock.cpu(),
        wall_seconds=clock.wall(),
        peak_memory_bytes=memory.whole(),
        memory_bytes=memory.peaks(),
        threads=threads,
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        trainable_parameters=sum(p.numel() for p in learner.weights.masters.values()),
        total_parameters=sum(_elements(p) for p in model.parameters()),
        fast_paths=fast_paths,
        resumed_from=resumed_from,
    )


def _elements(parameter: torch.nn.Parameter) -> int:
    """Weights that a parameter stands for: a 4-bit one packs two into a byte."""
    quantised = getattr(parameter, "quant_state", None)
    return parameter.numel() if quantised is None else int(quantised.shape.numel())
