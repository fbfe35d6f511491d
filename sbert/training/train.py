"""Fine-tune an encoder on labels.

The one idea: prepare arrays, hand them to `transformers.Trainer`, then write the best checkpoint as a plain
sentence-transformers folder, whatever was trained how.
"""

import importlib.util
import logging
import math
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.trainer_utils import get_last_checkpoint

from sbert.encoder import ComputeDtype, SentenceEncoder
from sbert.errors import DivergedError, SettingsError
from sbert.labels import LabelSet
from sbert.storage import join
from sbert.training.adapters import adapt, merge_adapter
from sbert.training.batches import BatchPlan
from sbert.training.checkpoints import CheckpointStore, run_fingerprint
from sbert.training.classifier import head_accuracy, save_head
from sbert.training.collating import Collator, WordDeletion
from sbert.training.continual import average_with, mix_rows
from sbert.training.data import TrainingData, choose_objective, make_training_data, with_class_names
from sbert.training.dev import default_dev_metric
from sbert.training.distributed import wait_for_all
from sbert.training.freezing import count_parameters, prepare_encoder
from sbert.training.mining import add_negatives, open_table
from sbert.training.module import TrainingModule
from sbert.training.objectives import build_loss, grouping_of
from sbert.training.prompt_tuning import add_virtual_tokens
from sbert.training.result import HistoryPoint, StopReason, TrainingProgress, TrainingResult
from sbert.training.settings import AdapterKind, Objective, TrainingSettings
from sbert.training.trainer import EncoderTrainer, NanLossError, RunCallback, load_trained

__all__ = ["train_encoder"]

log = logging.getLogger(__name__)

CPU_TOKEN_BUDGET = 1_024
GPU_TOKEN_BUDGET = 65_536
"""Padded tokens of one part of a batch: enough to fill the device, few enough that a part holds texts of like length."""
LOGS_PER_EPOCH = 20


def train_encoder(
    base: str,
    labels: LabelSet,
    settings: TrainingSettings,
    output_folder: str | os.PathLike[str],
    *,
    evaluate_dev: Callable[[SentenceEncoder], float] | None = None,
    checkpoints_uri: str | None = None,
    known_objects: frozenset[str] = frozenset(),
    on_progress: Callable[[TrainingProgress], None] | None = None,
) -> TrainingResult:
    """Fine-tune `base` on ``labels.train`` and write the best checkpoint as a sentence-transformers folder.

    Under torchrun every process calls this with the same arguments and gets the same result; process 0 writes.

    Args:
        base: the encoder to begin with: folder, URI, hub id or the packaged default.
        labels: what to learn from; checkpoints are compared on ``labels.dev``, the last is taken when it is empty.
        settings: everything else.
        output_folder: local folder; gets ``model/`` (the best checkpoint), ``runs/`` (TensorBoard) and ``checkpoints/``.
        evaluate_dev: gives the dev metric of an encoder, higher is better; by default one that fits the kind of label
            (`default_dev_metric`), for cross-entropy the accuracy of the head.
        checkpoints_uri: folder in object storage that a killed run is resumed from; None for no resuming. The checkpoints
            stay (``CheckpointStore(result.checkpoints_uri).clear()`` removes them), so that a caller killed later loses
            nothing.
        known_objects: keys of label objects that earlier runs learned from (`LabelSet.object_keys`); their rows are what
            ``continual.replay_share`` draws from. Empty: all rows are new.
        on_progress: told after every logged step.

    Raises:
        TooFewLabelsError: when the rows cannot fill a batch.
        TrainingError: when objective, adapter and labels do not fit together.
        SettingsError: when a tracker is not installed, nothing is left to train, negatives are asked for labels that are not
            pairs, or too few texts fit as negatives.
        TableError, ColumnError: when negatives cannot be read from the table that is named.
        DivergedError: when the loss is no longer a number before any checkpoint was better than the base, or, without dev
            rows, before there was any.
    """
    place = Path(output_folder)
    run = _prepare(base, labels, settings, place, evaluate_dev=evaluate_dev, known_objects=known_objects)
    store = None
    if checkpoints_uri is not None:
        store = CheckpointStore(join(checkpoints_uri, run.fingerprint))
    trainer = _trainer(run, settings, place, store, on_progress)
    began = time.monotonic()
    stop, detail = _fit(trainer, run, store, place)
    seconds = max(1e-9, time.monotonic() - began - trainer.seconds_aside)
    dev_best, best_step = _finish(base, trainer, run, settings, place, detail)
    wait_for_all()  # process 0 has written what the result names
    trainable, total = run.num_parameters
    return TrainingResult(
        folder=str(place / "model"),
        stop_reason=stop,
        stop_detail=detail,
        dev_before=run.dev_before,
        dev_best=dev_best,
        best_step=best_step,
        num_steps=trainer.state.global_step,
        num_trainable=trainable,
        num_parameters=total,
        num_tokens=run.collator.num_tokens,
        seconds=seconds,
        rows_per_second=run.collator.num_rows * run.arguments.world_size / seconds,
        tokens_per_second=run.collator.num_tokens * run.arguments.world_size / seconds,
        history=_history(trainer.state.log_history),
        checkpoints_uri=None if store is None else store.uri,
    )


@dataclass(frozen=True)
class _Run:
    """What one training works on."""

    module: TrainingModule
    data: TrainingData
    plan: BatchPlan
    collator: Collator
    arguments: transformers.TrainingArguments
    score: Callable[[], float] | None
    dev_before: float
    num_parameters: tuple[int, int]
    fingerprint: str
    """Of everything that decides the weights."""
    steps_per_epoch: int


def _prepare(
    base: str,
    labels: LabelSet,
    settings: TrainingSettings,
    place: Path,
    *,
    evaluate_dev: Callable[[SentenceEncoder], float] | None,
    known_objects: frozenset[str],
) -> _Run:
    objective = choose_objective(labels.kind, settings.objective)
    has_dev = evaluate_dev is not None or labels.dev.height > 0
    arguments = _arguments(settings, place, has_dev=has_dev)
    transformers.set_seed(settings.seed)
    encoder = SentenceEncoder.from_pretrained(base, device=arguments.device, compute_dtype=ComputeDtype.FLOAT32)
    metric = evaluate_dev or (default_dev_metric(labels) if labels.dev.height else None)
    dev_before = metric(encoder) if metric is not None else math.nan
    teacher = _teacher(base, objective, settings, encoder)
    rows = mix_rows(labels, known_objects, settings.continual.replay_share, settings.seed)
    table = open_table(settings.negatives)
    fingerprint = run_fingerprint(
        encoder.fingerprint,
        labels.fingerprint,
        rows["row_id"].to_list(),
        settings.model_dump_json(),
        None if table is None else table.version,
        arguments.world_size,
    )
    if settings.class_names:
        rows = with_class_names(rows, labels.kind)
    kind, rows = add_negatives(rows, labels.kind, encoder, settings.negatives, table)
    if settings.adapter.kind is AdapterKind.PROMPT:
        encoder = add_virtual_tokens(encoder, settings.adapter.num_virtual_tokens, settings.seed)
    data = make_training_data(rows, kind, objective, encoder, teacher=teacher)
    plan = BatchPlan(
        data.text_ids_NC,
        data.class_numbers,
        grouping=grouping_of(objective),
        batch_size=settings.batch_size,
        seed=settings.seed,
        classes_per_batch=settings.classes_per_batch,
        process=arguments.process_index,
        num_processes=arguments.world_size,
    )
    prepare_encoder(encoder, settings)
    steps_per_epoch = math.ceil(len(plan) / settings.gradient_accumulation)
    num_steps = settings.max_steps or math.ceil(settings.epochs * steps_per_epoch)
    adapt(encoder, settings.adapter, num_steps)
    loss = build_loss(objective, settings, encoder, len(data.classes)).to(arguments.device)
    if count_parameters(encoder)[0] + count_parameters(loss)[0] == 0:
        raise SettingsError(
            f"freeze {settings.freeze!r} leaves nothing to train: objective {objective} has no weights of its own, and the "
            "encoder no layer after the transformer; freeze less, or for classes choose objective cross_entropy"
        )
    if objective is Objective.CROSS_ENTROPY and evaluate_dev is None and metric is not None:
        metric = head_accuracy(loss, data.classes, labels.dev)
    module = TrainingModule(
        encoder,
        loss,
        bf16=_computes_bf16(arguments.device) if settings.bf16 is None else settings.bf16,
        cache_gradients=settings.mini_batch_size is not None,
        distill_weight=settings.continual.distill_weight,
        num_prompt_tokens=data.tokens.num_prompt_tokens,
    )
    collator = Collator(
        data,
        plan,
        int(encoder.hf_tokenizer.pad_token_id or 0),
        token_budget=CPU_TOKEN_BUDGET if arguments.device.type == "cpu" else GPU_TOKEN_BUDGET,
        max_texts=settings.mini_batch_size,
        deletion=WordDeletion(encoder.hf_tokenizer, settings.deletion_ratio, settings.seed)
        if objective is Objective.TSDAE
        else None,
    )
    return _Run(
        module=module,
        data=data,
        plan=plan,
        collator=collator,
        arguments=arguments,
        score=None if metric is None else lambda: metric(encoder),
        dev_before=dev_before,
        num_parameters=count_parameters(encoder),
        fingerprint=fingerprint,
        steps_per_epoch=steps_per_epoch,
    )


def _teacher(
    base: str, objective: Objective, settings: TrainingSettings, encoder: SentenceEncoder
) -> SentenceEncoder | None:
    if objective is Objective.DISTILLATION and settings.teacher is not None and settings.teacher != base:
        return SentenceEncoder.from_pretrained(
            settings.teacher, device=encoder.device, compute_dtype=ComputeDtype.FLOAT32
        )
    if objective is Objective.DISTILLATION or settings.continual.distill_weight:
        return encoder
    return None


def _computes_bf16(device: torch.device) -> bool:
    """Tell whether the device has units for bfloat16: anything else emulates it, slowly."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_amx_tile_supported())


def _check_trackers(settings: TrainingSettings) -> None:
    for tracker in settings.trackers:
        if importlib.util.find_spec(tracker.value) is None:
            raise SettingsError(
                f"trackers names {tracker}, which is not installed: pip install {tracker}, or leave it out"
            )


def _arguments(settings: TrainingSettings, place: Path, *, has_dev: bool) -> transformers.TrainingArguments:
    _check_trackers(settings)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    use_cpu = not torch.cuda.is_available()
    arguments = transformers.TrainingArguments(
        output_dir=str(place / "checkpoints"),
        per_device_train_batch_size=max(1, settings.batch_size // processes),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.scheduler,
        warmup_steps=settings.warmup_ratio if settings.warmup_ratio < 1 else 0.999,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        gradient_accumulation_steps=settings.gradient_accumulation,
        eval_strategy="steps" if has_dev else "no",
        eval_steps=NEVER,
        save_strategy="steps",
        save_steps=NEVER,
        save_total_limit=2,
        load_best_model_at_end=has_dev,
        metric_for_best_model="eval_dev" if has_dev else None,
        greater_is_better=True if has_dev else None,
        restore_callback_states_from_checkpoint=True,
        logging_nan_inf_filter=False,
        report_to=[tracker.value for tracker in settings.trackers],
        remove_unused_columns=False,
        disable_tqdm=not sys.stderr.isatty(),
        dataloader_pin_memory=not use_cpu,
        ddp_find_unused_parameters=False,
        ddp_backend="gloo" if use_cpu and processes > 1 else None,
        use_cpu=use_cpu,
        seed=settings.seed,
    )
    if arguments.n_gpu > 1:  # Trainer would scatter the parts of a batch over all of them, as if they were rows
        arguments._n_gpu = 1
    return arguments


NEVER = 10**9
"""Steps between evaluations and saves that Trainer would make of its own; `RunCallback` says when."""


def _trainer(
    run: _Run,
    settings: TrainingSettings,
    place: Path,
    store: CheckpointStore | None,
    on_progress: Callable[[TrainingProgress], None] | None,
) -> EncoderTrainer:
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations.integration_utils import TensorBoardCallback

    run.arguments.logging_steps = max(1, run.steps_per_epoch // LOGS_PER_EPOCH)
    callbacks: list[Any] = [
        RunCallback(
            run.module,
            steps_between=max(1, run.steps_per_epoch // settings.evaluations_per_epoch),
            has_dev=run.score is not None,
            store=store,
            on_progress=on_progress,
        )
    ]
    if run.arguments.process_index == 0:
        callbacks.append(TensorBoardCallback(SummaryWriter(str(place / "runs"))))  # type: ignore[no-untyped-call]
    if settings.early_stopping_patience is not None and run.score is not None:
        callbacks.append(transformers.EarlyStoppingCallback(settings.early_stopping_patience, settings.min_improvement))
    trainer = EncoderTrainer(
        run.module,
        run.arguments,
        settings=settings,
        plan=run.plan,
        collator=run.collator,
        num_rows=run.data.num_rows,
        evaluate_dev=run.score,
        callbacks=callbacks,
    )
    trainer.remove_callback(transformers.PrinterCallback)  # writes to standard output, which belongs to the caller
    return trainer


def _fit(trainer: EncoderTrainer, run: _Run, store: CheckpointStore | None, place: Path) -> tuple[StopReason, str]:
    folder = place / "checkpoints"
    with run.arguments.main_process_first():
        if run.arguments.local_process_index == 0:
            shutil.rmtree(folder, ignore_errors=True)  # of another run, with other settings
            resume = None if store is None else store.download(folder)
        else:
            found = get_last_checkpoint(str(folder)) if folder.is_dir() else None  # type: ignore[no-untyped-call]
            resume = None if found is None else Path(found)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
            trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    except NanLossError as error:
        log.error("%s: training stops, the best checkpoint before is kept", error)  # noqa: TRY400
        return StopReason.NAN_LOSS, str(error)
    if trainer.state.global_step < trainer.state.max_steps:
        return StopReason.EARLY_STOPPING, ""
    return StopReason.COMPLETED, ""


def _finish(
    base: str,
    trainer: EncoderTrainer,
    run: _Run,
    settings: TrainingSettings,
    place: Path,
    diverged: str,
) -> tuple[float, int]:
    """Write the best checkpoint's folder, without dev rows the last one's; give its dev metric and step."""
    encoder = run.module.encoder
    best_step = trainer.state.best_global_step or 0
    best = trainer.state.best_metric
    kept: str | Path | None = trainer.state.best_model_checkpoint
    if run.score is None:
        kept, best = trainer.last_checkpoint, math.nan
        best_step = 0 if kept is None else int(Path(kept).name.split("-")[1])
        improved = kept is not None
    else:
        improved = best is not None and best > run.dev_before + settings.min_improvement
    if not improved:
        if diverged:
            before = "there was no checkpoint before"
            if run.score is not None:
                before = f"no checkpoint before was better than the base encoder (dev {run.dev_before:.4f})"
            raise DivergedError(
                f"{diverged}, and {before}: lower learning_rate ({settings.learning_rate:g}), or look at the labels"
            )
        if run.arguments.process_index == 0:
            SentenceEncoder.from_pretrained(base, device="cpu", compute_dtype=ComputeDtype.FLOAT32).save_pretrained(
                place / "model"
            )
        return run.dev_before, 0
    if run.score is not None or diverged:
        load_trained(run.module, Path(str(kept)))
    merge_adapter(encoder)
    encoder.eval()
    if settings.continual.average_weight < 1:
        average_with(base, encoder, settings.continual.average_weight)
        if run.score is not None:
            best = run.score()
    if run.arguments.process_index == 0:
        encoder.save_pretrained(place / "model")
        save_head(run.module.loss, run.data.classes, place / "model")
    assert best is not None
    return float(best), best_step


def _history(entries: list[dict[str, Any]]) -> tuple[HistoryPoint, ...]:
    points = []
    for entry in entries:
        values = {
            name.replace("eval_dev", "dev"): float(value)
            for name, value in entry.items()
            if name in {"loss", "learning_rate", "grad_norm", "eval_dev"}
        }
        if values:
            points.append(HistoryPoint(step=int(entry["step"]), epoch=float(entry["epoch"]), values=values))
    return tuple(points)
