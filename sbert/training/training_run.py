"""Assemble one training from labels and settings: rows, batches, module, arguments, and the fingerprint of the run."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import transformers

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.model_location import locate_model
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import SettingsError, TrainingError
from sbert.labels.label_kinds import TEXT_COLUMNS, LabelKind
from sbert.labels.label_set import LabelSet
from sbert.runtime.hardware import has_fast_bfloat16
from sbert.training.adapters import adapt
from sbert.training.arguments import trainer_arguments
from sbert.training.batches import BatchPlan
from sbert.training.checkpoints import run_fingerprint
from sbert.training.classifier import head_accuracy
from sbert.training.collating import Collator, WordDeletion
from sbert.training.continual import mix_rows
from sbert.training.dev_metric import default_dev_metric
from sbert.training.freezing import count_parameters, prepare_encoder
from sbert.training.learned_texts import LearnedTexts
from sbert.training.mining import add_negatives, open_table
from sbert.training.module import TrainingModule
from sbert.training.objectives import build_loss, grouping_of
from sbert.training.prompt_tuning import add_virtual_tokens
from sbert.training.rehearsal import Rehearsal, rehearsal_rows
from sbert.training.row_checks import check_rows
from sbert.training.settings import AdapterKind, Objective, TrainingSettings
from sbert.training.training_data import (
    WITHOUT_LABELS,
    TrainingData,
    choose_objective,
    make_training_data,
    with_class_names,
)

__all__ = ["TrainingRun", "assemble_run"]

CPU_TOKEN_BUDGET = 1_024
GPU_TOKEN_BUDGET = 65_536
"""Padded tokens of one part of a batch: enough to use the device fully, few enough that its texts have similar lengths."""


@dataclass(frozen=True)
class TrainingRun:
    """Everything that one training works on."""

    module: TrainingModule
    data: TrainingData
    plan: BatchPlan
    collator: Collator
    arguments: transformers.TrainingArguments
    score: Callable[[], float] | None
    dev_before: float
    num_parameters: tuple[int, int]
    fingerprint: str
    """Hash of everything that decides the weights."""
    steps_per_epoch: int
    notes: tuple[str, ...]
    """Findings about rows that weaken training."""
    learned: LearnedTexts
    """The texts of the rows, those on which checkpoints are compared, and those of the base and its bases."""


def assemble_run(
    base: str,
    labels: LabelSet,
    settings: TrainingSettings,
    place: Path,
    *,
    evaluate_dev: Callable[[SentenceEncoder], float] | None,
    dev_texts: Sequence[str] | None,
    known_objects: frozenset[str],
) -> TrainingRun:
    """Assemble a training; `sbert.training.train.train_encoder` documents the arguments and errors."""
    objective = choose_objective(labels.kind, settings.objective)
    has_dev = evaluate_dev is not None or labels.dev.height > 0
    arguments = trainer_arguments(settings, place, has_dev=has_dev)
    transformers.set_seed(settings.seed)
    encoder = SentenceEncoder.from_pretrained(base, device=arguments.device, compute_dtype=ComputeDtype.FLOAT32)
    metric = evaluate_dev or (default_dev_metric(labels) if labels.dev.height else None)
    dev_before = math.nan if metric is None else _dev_before(base, encoder, metric)
    teacher = _teacher(base, objective, settings, encoder)
    rows = mix_rows(labels, known_objects, settings.continual.replay_share, settings.seed)
    table = open_table(settings.negatives)
    made = rehearsal_rows(labels, rows, settings.seed) if settings.continual.rehearsal_weight else None
    fingerprint = run_fingerprint(
        encoder.fingerprint,
        labels.fingerprint,
        rows["row_id"].to_list(),
        settings.model_dump_json(),
        None if table is None else table.version,
        arguments.world_size,
        encoder.prompts,
        None if made is None else made.rows(),
    )
    base_encoder = encoder
    if settings.class_names:
        rows = with_class_names(rows, labels.kind)
    kind, rows = add_negatives(rows, labels.kind, encoder, settings.negatives, table)
    learned = _learned_texts(rows, kind, objective, labels, dev_texts)
    earlier = LearnedTexts.read(os.fspath(locate_model(base)))  # now: a damaged one must not end a training
    if earlier is not None:
        learned = learned.joined(earlier)
    if settings.adapter.kind is AdapterKind.PROMPT:
        encoder = add_virtual_tokens(encoder, settings.adapter.num_virtual_tokens, settings.seed)
    data = make_training_data(rows, kind, objective, encoder, teacher=teacher)
    made_data = None
    if made is not None and made.height:
        made_data = make_training_data(made, LabelKind.TRIPLETS, Objective.TRIPLET, encoder, teacher=base_encoder)
    plan = _batch_plan(data, objective, settings, arguments)
    notes = check_rows(objective, data, plan)
    prepare_encoder(encoder, settings)
    steps_per_epoch = math.ceil(len(plan) / settings.gradient_accumulation)
    num_steps = settings.max_steps or math.ceil(settings.epochs * steps_per_epoch)
    adapt(encoder, settings.adapter, num_steps)
    loss = build_loss(objective, settings, encoder, data).to(arguments.device)
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
        bf16=has_fast_bfloat16(arguments.device) if settings.bf16 is None else settings.bf16,
        cache_gradients=settings.mini_batch_size is not None,
        distill_weight=settings.continual.distill_weight,
        rehearsal_weight=settings.continual.rehearsal_weight or 0.0,
    )
    return TrainingRun(
        module=module,
        data=data,
        plan=plan,
        collator=_collator(data, made_data, plan, encoder, objective, settings, arguments),
        arguments=arguments,
        score=None if metric is None else lambda: metric(encoder),
        dev_before=dev_before,
        num_parameters=count_parameters(encoder),
        fingerprint=fingerprint,
        steps_per_epoch=steps_per_epoch,
        notes=notes,
        learned=learned,
    )


def _learned_texts(
    rows: pl.DataFrame, kind: LabelKind, objective: Objective, labels: LabelSet, dev_texts: Sequence[str] | None
) -> LearnedTexts:
    """Return the texts of the train rows, mined negatives among them, and of the rows on which checkpoints are compared."""
    columns = [*TEXT_COLUMNS[kind], *(name for name in rows.columns if name.startswith("negative_"))]
    trained = pl.concat([rows[name].alias("text") for name in columns])
    of_labels = pl.concat([labels.dev[name].alias("text") for name in labels.text_columns])
    dev = of_labels if dev_texts is None else pl.Series("text", dev_texts, dtype=pl.String)
    if objective in WITHOUT_LABELS:
        return LearnedTexts.of(unlabelled=trained, chosen_on=dev)
    return LearnedTexts.of(labelled=trained, chosen_on=dev)


def _dev_before(base: str, encoder: SentenceEncoder, metric: Callable[[SentenceEncoder], float]) -> float:
    """Return the dev metric of the encoder that training begins with.

    Raises:
        TrainingError: it is no number.
    """
    value = metric(encoder)
    if not math.isfinite(value):
        raise TrainingError(
            f"{base}: the dev metric of the encoder that training begins with is {value}, so that no checkpoint can be "
            "compared with it: correct the metric, or leave out the dev rows to keep the last checkpoint"
        )
    return value


def _batch_plan(
    data: TrainingData, objective: Objective, settings: TrainingSettings, arguments: transformers.TrainingArguments
) -> BatchPlan:
    """Plan the batches of this process."""
    return BatchPlan(
        data.content_ids_NC,
        data.class_numbers,
        grouping=grouping_of(objective),
        batch_size=settings.batch_size,
        seed=settings.seed,
        classes_per_batch=settings.classes_per_batch,
        process=arguments.process_index,
        num_processes=arguments.world_size,
    )


def _collator(
    data: TrainingData,
    made: TrainingData | None,
    plan: BatchPlan,
    encoder: SentenceEncoder,
    objective: Objective,
    settings: TrainingSettings,
    arguments: transformers.TrainingArguments,
) -> Collator:
    """Return the collator of the batches; TSDAE deletes words, and rehearsal adds made rows."""
    pad_id = int(encoder.hf_tokenizer.pad_token_id or 0)
    token_budget = CPU_TOKEN_BUDGET if arguments.device.type == "cpu" else GPU_TOKEN_BUDGET
    deletion = rehearse = None
    if objective is Objective.TSDAE:
        deletion = WordDeletion(encoder.hf_tokenizer, settings.deletion_ratio, settings.seed)
    if made is not None and any(parameter.requires_grad for parameter in encoder.parameters()):
        tensors = Collator(made, plan, pad_id, token_budget=token_budget, max_texts=settings.mini_batch_size)
        rehearse = Rehearsal(made, plan, tensors, settings.seed)
    return Collator(
        data,
        plan,
        pad_id,
        token_budget=token_budget,
        max_texts=settings.mini_batch_size,
        deletion=deletion,
        rehearse=rehearse,
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
