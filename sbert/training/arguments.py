"""The arguments of `transformers.Trainer`, from the settings and the hardware of the machine."""

import importlib.util
import os
import sys
from pathlib import Path

import torch
import transformers

from sbert.errors import SettingsError
from sbert.training.settings import TrainingSettings

__all__ = ["trainer_arguments"]

NEVER = 10**9
"""Steps between Trainer's own evaluations and saves: never, because `RunCallback` decides when."""


def trainer_arguments(settings: TrainingSettings, place: Path, *, has_dev: bool) -> transformers.TrainingArguments:
    """Return the arguments of one training. Its checkpoints lie under `place`.

    Raises:
        SettingsError: when a tracker is not installed.
    """
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
    if arguments.n_gpu > 1:  # Trainer would distribute the parts of a batch over all GPUs, as if they were rows
        arguments._n_gpu = 1
    return arguments


def _check_trackers(settings: TrainingSettings) -> None:
    for tracker in settings.trackers:
        if importlib.util.find_spec(tracker.value) is None:
            raise SettingsError(
                f"trackers names {tracker}, which is not installed: pip install {tracker}, or leave it out"
            )
