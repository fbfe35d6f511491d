"""Fine-tune an encoder on labels.

`train_encoder` makes arrays of the labels, runs `transformers.Trainer` on them, and writes the best checkpoint as a plain
sentence-transformers folder, whichever objective and adapter were used.
"""

import logging
import math
import os
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import transformers
from transformers.trainer_utils import get_last_checkpoint

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.model_location import locate_model
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import DivergedError
from sbert.labels.label_set import LabelSet
from sbert.storage.files import join
from sbert.training.adapters import merge_adapter
from sbert.training.checkpoints import CheckpointStore
from sbert.training.classifier import save_head
from sbert.training.classifier_files import copy_classifier
from sbert.training.continual import average_with
from sbert.training.distributed import wait_for_all
from sbert.training.learned_texts import copy_learned_texts
from sbert.training.result import HistoryPoint, StopReason, TrainingProgress, TrainingResult
from sbert.training.settings import TrainingSettings
from sbert.training.trainer import EarlyStopping, EncoderTrainer, NanLossError, RunCallback, load_trained
from sbert.training.training_run import TrainingRun, assemble_run

__all__ = ["train_encoder"]

log = logging.getLogger(__name__)

LOGS_PER_EPOCH = 20


def train_encoder(
    base: str,
    labels: LabelSet,
    settings: TrainingSettings,
    output_folder: str | os.PathLike[str],
    *,
    evaluate_dev: Callable[[SentenceEncoder], float] | None = None,
    dev_texts: Sequence[str] | None = None,
    checkpoints_uri: str | None = None,
    known_objects: frozenset[str] = frozenset(),
    on_progress: Callable[[TrainingProgress], None] | None = None,
) -> TrainingResult:
    """Fine-tune `base` on ``labels.train`` and write the best checkpoint as a sentence-transformers folder.

    Under torchrun every process calls this with the same arguments and gets the same result. Process 0 writes.

    Args:
        base: the encoder to begin with: folder, URI, hub id or the packaged default.
        labels: labels to learn from. Checkpoints are compared on ``labels.dev``; when it is empty, the last one is kept.
        settings: all other settings.
        output_folder: local folder; gets ``model/`` (the best checkpoint), ``runs/`` (TensorBoard) and ``checkpoints/``.
        evaluate_dev: returns the dev metric of an encoder, higher is better. The default fits the kind of labels
            (`default_dev_metric`); for cross-entropy it is the accuracy of the head.
        dev_texts: the texts that `evaluate_dev` measures on, for the record of learned texts; None for those of
            ``labels.dev``.
        checkpoints_uri: folder in object storage from which a killed run is resumed; None for no resuming. The checkpoints
            stay there, so that a caller that is killed later loses nothing. `CheckpointStore.clear` removes them.
        known_objects: keys of label objects that earlier runs learned from (`LabelSet.object_keys`). Rows for
            ``continual.replay_share`` are drawn from them. Empty: all rows are new.
        on_progress: called about twice a second, and whenever there are new numbers. Without it, a terminal shows
            the bar of transformers.

    Raises:
        TooFewLabelsError: when the rows cannot fill a batch, give no row a negative, or cannot compare checkpoints.
        TrainingError: when objective, adapter and labels do not fit together, or the dev metric of the base is NaN.
        SettingsError: when a tracker is not installed, everything is frozen, the labels are not pairs and negatives are to
            be mined, or too few negatives are found.
        TableError, ColumnError: when the table of negatives cannot be read.
        DivergedError: when the loss becomes NaN before any checkpoint was better than the base, or, without dev rows,
            before the first checkpoint.
    """
    place = Path(output_folder)
    run = assemble_run(
        base, labels, settings, place, evaluate_dev=evaluate_dev, dev_texts=dev_texts, known_objects=known_objects
    )
    store = None
    if checkpoints_uri is not None:
        store = CheckpointStore(join(checkpoints_uri, run.fingerprint))
    trainer = _trainer(run, settings, place, store, on_progress)
    began = time.monotonic()
    stop, detail = _fit(trainer, run, store, place)
    seconds = max(1e-9, time.monotonic() - began - trainer.seconds_aside)
    dev_best, best_step = _finish(base, trainer, run, settings, place, detail)
    wait_for_all()  # until process 0 has written the folder
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
        notes=run.notes,
    )


def _trainer(
    run: TrainingRun,
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
        callbacks.append(EarlyStopping(settings.early_stopping_patience, settings.min_improvement))
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
    trainer.remove_callback(transformers.PrinterCallback)  # standard output belongs to the caller
    if on_progress is not None:
        trainer.remove_callback(transformers.ProgressCallback)  # the caller shows it
    return trainer


def _fit(
    trainer: EncoderTrainer, run: TrainingRun, store: CheckpointStore | None, place: Path
) -> tuple[StopReason, str]:
    folder = place / "checkpoints"
    with run.arguments.main_process_first():
        if run.arguments.local_process_index == 0:
            shutil.rmtree(folder, ignore_errors=True)  # another run with other settings may have left it
            resume = None if store is None else store.download(folder)
        else:
            last = get_last_checkpoint(str(folder)) if folder.is_dir() else None  # type: ignore[no-untyped-call]
            resume = None if last is None else Path(last)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
            trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    except NanLossError as error:
        log.error("%s: training stops and keeps the best checkpoint before", error)  # noqa: TRY400
        return StopReason.NAN_LOSS, str(error)
    finally:
        _close_tensorboard(trainer)
    if trainer.state.global_step < trainer.state.max_steps:
        return StopReason.EARLY_STOPPING, ""
    return StopReason.COMPLETED, ""


def _close_tensorboard(trainer: EncoderTrainer) -> None:
    """Write out the last numbers: the callback itself does so only after a training that reached its end."""
    from transformers.integrations.integration_utils import TensorBoardCallback

    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
            callback.tb_writer.close()


def _finish(
    base: str,
    trainer: EncoderTrainer,
    run: TrainingRun,
    settings: TrainingSettings,
    place: Path,
    diverged: str,
) -> tuple[float, int]:
    """Write the folder of the best checkpoint, without dev rows of the last one; return its dev metric and step."""
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
                f"{diverged}, and {before}: lower learning_rate ({settings.learning_rate:g}), or check the labels"
            )
        if run.arguments.process_index == 0:
            SentenceEncoder.from_pretrained(base, device="cpu", compute_dtype=ComputeDtype.FLOAT32).save_pretrained(
                place / "model"
            )
            copy_classifier(locate_model(base), place / "model")
            copy_learned_texts(locate_model(base), place / "model")
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
        run.learned.write(place / "model")
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
