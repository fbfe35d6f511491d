"""`transformers.Trainer` with our batches, dev metric, checkpoints and stops."""

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import transformers
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader
from transformers.trainer_callback import TrainerControl, TrainerState

from sbert.training.adapters import update_ranks
from sbert.training.batches import BatchPlan
from sbert.training.checkpoints import CheckpointStore
from sbert.training.collating import Collator
from sbert.training.distributed import is_distributed, wait_for_all
from sbert.training.module import TrainingModule
from sbert.training.result import TrainingProgress
from sbert.training.settings import TrainingSettings

__all__ = ["EarlyStopping", "EncoderTrainer", "NanLossError", "RunCallback"]

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.5
"""Least time between two reports of progress, apart from those with new numbers."""

WEIGHTS = "model.safetensors"


class NanLossError(Exception):
    """Loss, gradient or weights became NaN or infinite. `train_encoder` catches it."""


class _Rows(torch.utils.data.Dataset[int]):
    """A row is only its number; the collator knows the texts."""

    def __init__(self, num_rows: int) -> None:
        self._num_rows = num_rows

    def __len__(self) -> int:
        return self._num_rows

    def __getitem__(self, row: int) -> int:
        return row


class _PlannedLoader(DataLoader[Any]):
    """Passes the number of the epoch from Trainer to the plan."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


class EncoderTrainer(transformers.Trainer):
    """Trains a `TrainingModule` on the batches of a `BatchPlan`."""

    def __init__(
        self,
        module: TrainingModule,
        args: transformers.TrainingArguments,
        *,
        settings: TrainingSettings,
        plan: BatchPlan,
        collator: Collator,
        num_rows: int,
        evaluate_dev: Callable[[], float] | None,
        callbacks: list[Any],
    ) -> None:
        """Set up; `evaluate_dev` returns the dev metric of the module's encoder with its present weights."""
        self._settings, self._plan = settings, plan
        self._evaluate_dev = evaluate_dev
        self.seconds_aside = 0.0
        """Time spent on evaluation and saving."""
        self.last_checkpoint: Path | None = None
        self._batch: dict[str, Any] = {}
        self._module, self._rows = module, _Rows(num_rows)
        super().__init__(
            model=module,
            args=args,
            train_dataset=self._rows,
            eval_dataset=self._rows if evaluate_dev else None,
            data_collator=collator,
            callbacks=callbacks,
        )

    def get_train_dataloader(self) -> Any:
        """Return the loader of planned batches. The plan has cut them to the slice of this process."""
        return _PlannedLoader(self._rows, batch_sampler=self._plan, collate_fn=self.data_collator)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimizer: no weight decay on biases and norms, and another learning rate for heads that start random."""
        del model
        if self.optimizer is None:
            settings = self._settings
            groups: dict[tuple[float, float], list[nn.Parameter]] = {}
            for name, parameter in self._module.named_parameters():
                if not parameter.requires_grad:
                    continue
                decay = 0.0 if parameter.ndim < 2 else settings.weight_decay
                fresh = name.startswith("loss.classifier.")
                rate = settings.head_learning_rate if fresh else settings.learning_rate
                groups.setdefault((decay, rate), []).append(parameter)
            listed = [{"params": each, "weight_decay": decay, "lr": rate} for (decay, rate), each in groups.items()]
            if settings.optimizer == "sgd":
                self.optimizer = torch.optim.SGD(listed, lr=settings.learning_rate, momentum=settings.momentum)
            else:
                self.optimizer = torch.optim.AdamW(listed, lr=settings.learning_rate, fused=True)
        return self.optimizer

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any) -> Any:
        """Return the loss of a batch.

        Raises:
            NanLossError: when the loss of any process is not a number.
        """
        loss = model(**inputs)
        self._batch = inputs
        self._require_finite(loss, "loss of", self.state.global_step + 1)
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Return the norm of the gradient, before the optimizer changes the weights.

        Raises:
            NanLossError: when it is not a number.
        """
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[no-untyped-call]
        self._require_finite(torch.as_tensor(norm), "gradient norm of", self.state.global_step + 1)
        return norm

    def _check_weights(self) -> None:
        """Check that the present weights, and their loss on the last batch, are numbers.

        Raises:
            NanLossError: when they are not.
        """
        self._module.eval()
        with torch.no_grad():
            loss = self._module(**self._batch)
            if not all(each.isfinite().all() for each in self._module.parameters() if each.requires_grad):
                loss = loss * math.nan
        self._require_finite(loss, "loss after", self.state.global_step)

    def _require_finite(self, value: torch.Tensor, what: str, step: int) -> None:
        broken = (~torch.isfinite(value.detach())).float()
        if is_distributed():
            dist.all_reduce(broken)
        if broken.item():
            assert self.optimizer is not None
            rate = max(group["lr"] for group in self.optimizer.param_groups)
            raise NanLossError(f"the {what} step {step} is {value.item()}, at learning rate {rate:.3g}")

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Measure the encoder on the dev rows. Process 0 does it and sends the result to the others.

        Raises:
            NanLossError: when the weights are not numbers.
        """
        assert self._evaluate_dev is not None
        began = time.monotonic()
        self._check_weights()
        mark_changed(self._module)
        value = torch.zeros(1, dtype=torch.float64)
        if self.args.process_index == 0:
            value[0] = self._evaluate_dev()
        if is_distributed():
            value = value.to(self.args.device)
            dist.broadcast(value, 0)
        score = float(value[0])
        if not math.isfinite(score):
            log.warning(
                "step %d: the dev metric is %s, the checkpoint counts as the worst", self.state.global_step, score
            )
        metrics = {"eval_dev": score if math.isfinite(score) else -1e9}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.seconds_aside += time.monotonic() - began
        return metrics

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        began = time.monotonic()
        if self._evaluate_dev is None:
            self._check_weights()
        super()._save_checkpoint(*args, **kwargs)
        self.last_checkpoint = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        self.seconds_aside += time.monotonic() - began

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Save the trained weights. The base encoder has the others."""
        del state_dict
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        trained = {
            name: each.detach().contiguous() for name, each in self._module.named_parameters() if each.requires_grad
        }
        save_file(trained, folder / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        del model
        self.last_checkpoint = Path(resume_from_checkpoint)
        load_trained(self._module, self.last_checkpoint)

    def _load_best_model(self) -> None:
        load_trained(self._module, Path(str(self.state.best_model_checkpoint)))


def mark_changed(module: nn.Module) -> None:
    """Raise the version of the trained weights, because the fused AdamW changes weights without raising it.

    An encoder prepares its weights for fast encoding, and prepares them again only when their version changed.
    """
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.mul_(1)


def load_trained(module: nn.Module, folder: Path) -> None:
    """Load the trained weights of a checkpoint into the module."""
    own = dict(module.named_parameters())
    with torch.no_grad():
        for name, tensor in load_file(folder / WEIGHTS).items():
            own[name].copy_(tensor)


class EarlyStopping(transformers.EarlyStoppingCallback):
    """Stop when the dev metric has not improved enough for a number of evaluations.

    transformers compares with the best value so far, which small steps raise again and again: a metric that rises slowly
    never counts as improved. Here it is compared with the last value that counted as an improvement.
    """

    def __init__(
        self,
        early_stopping_patience: int = 1,
        early_stopping_threshold: float | None = 0.0,
        last_counted: float | None = None,
    ) -> None:
        """Name the evaluations to wait and the least improvement; a resumed run passes the last value that counted."""
        super().__init__(early_stopping_patience, early_stopping_threshold)
        self.last_counted = last_counted

    def check_metric_value(self, args: Any, state: TrainerState, control: TrainerControl, metric_value: float) -> None:
        """Count the evaluations since the last improvement."""
        del args, state, control
        if self.last_counted is None or metric_value > self.last_counted + (self.early_stopping_threshold or 0.0):
            self.last_counted = metric_value
            self.early_stopping_patience_counter = 0
        else:
            self.early_stopping_patience_counter += 1

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint; transformers restores it by class name."""
        stored: dict[str, Any] = super().state()
        stored["attributes"]["last_counted"] = self.last_counted
        return stored


class RunCallback(transformers.TrainerCallback):
    """Decide when to evaluate and save, copy checkpoints to object storage, and report progress."""

    def __init__(
        self,
        module: TrainingModule,
        *,
        steps_between: int,
        has_dev: bool,
        store: CheckpointStore | None,
        on_progress: Callable[[TrainingProgress], None] | None,
    ) -> None:
        """Set up."""
        self._module = module
        self._steps_between, self._has_dev = steps_between, has_dev
        self._store, self._on_progress = store, on_progress
        self._progress = TrainingProgress(0, 0)
        self._began = self._shown = 0.0
        self._first_step = 0

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock by which the time left is computed; a resumed training begins at a later step."""
        del args, control
        self._began, self._first_step = time.monotonic(), state.global_step

    def on_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Let AdaLoRA redistribute its ranks."""
        del args, control
        update_ranks(self._module.encoder, state.global_step)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Evaluate and save every so many steps, and at the end."""
        del args
        due = state.global_step % self._steps_between == 0 or state.global_step >= state.max_steps
        control.should_save = due
        control.should_evaluate = due and self._has_dev
        if time.monotonic() - self._shown >= PROGRESS_SECONDS:
            self._report(state, {})

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Copy the checkpoint to object storage."""
        del control
        if self._store is None:
            return
        wait_for_all()  # every process has written its random state
        if args.process_index != 0:
            return
        last = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self._store.upload(last, state.global_step)
        kept = {state.global_step}
        if state.best_model_checkpoint:
            kept.add(int(Path(state.best_model_checkpoint).name.split("-")[1]))
        self._store.keep_only(kept)

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Report progress."""
        del args, control
        self._report(state, logs or {})

    def _report(self, state: TrainerState, logs: dict[str, Any]) -> None:
        """Report the step, the newest numbers, and the time left."""
        if self._on_progress is None:
            return
        self._shown = time.monotonic()
        num_done = state.global_step - self._first_step
        per_step = (self._shown - self._began) / num_done if num_done else None
        self._progress = TrainingProgress(
            step=state.global_step,
            num_steps=state.max_steps,
            loss=logs.get("loss", self._progress.loss),
            dev=logs.get("eval_dev", self._progress.dev),
            seconds_left=None if per_step is None else per_step * (state.max_steps - state.global_step),
        )
        self._on_progress(self._progress)
