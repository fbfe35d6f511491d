"""Labels as arrays: every distinct text is tokenized once, and a row is the numbers of its texts.

Legend of shapes: N rows, C columns of texts, T distinct texts, D values in a vector.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.encoder.tokenization.token_ids import TokenizedTexts
from sbert.errors import TrainingError
from sbert.labels.label_kinds import NLI_LABELS, TEXT_COLUMNS, LabelKind, side_of
from sbert.training.losses.ranking import KnownPairs
from sbert.training.settings import Objective

__all__ = [
    "DEFAULT_OBJECTIVES",
    "WITHOUT_LABELS",
    "TrainingData",
    "choose_objective",
    "make_training_data",
    "with_class_names",
]

Ints = npt.NDArray[np.int64]

DEFAULT_OBJECTIVES: dict[LabelKind, Objective] = {
    LabelKind.SCORED_PAIRS: Objective.COSENT,
    LabelKind.PAIRS: Objective.RANKING,
    LabelKind.TRIPLETS: Objective.RANKING,
    LabelKind.NLI: Objective.SOFTMAX,
    LabelKind.CLASSES: Objective.SUPERVISED_CONTRASTIVE,
    LabelKind.TEXTS: Objective.SIMCSE,
}
ALLOWED: dict[Objective, tuple[LabelKind, ...]] = {
    Objective.SOFTMAX: (LabelKind.NLI,),
    Objective.COSINE: (LabelKind.SCORED_PAIRS,),
    Objective.COSENT: (LabelKind.SCORED_PAIRS, LabelKind.NLI),
    Objective.ANGLE: (LabelKind.SCORED_PAIRS, LabelKind.NLI),
    Objective.TRIPLET: (LabelKind.TRIPLETS,),
    Objective.RANKING: (LabelKind.PAIRS, LabelKind.TRIPLETS, LabelKind.NLI),
    Objective.BATCH_HARD_TRIPLET: (LabelKind.CLASSES,),
    Objective.SUPERVISED_CONTRASTIVE: (LabelKind.CLASSES,),
    Objective.CROSS_ENTROPY: (LabelKind.CLASSES,),
    Objective.SIMCSE: tuple(LabelKind),
    Objective.TSDAE: tuple(LabelKind),
    Objective.DISTILLATION: tuple(LabelKind),
}
"""Kinds of labels that each objective can learn from."""
WITHOUT_LABELS = frozenset({Objective.SIMCSE, Objective.TSDAE, Objective.DISTILLATION})
"""Objectives that learn from texts alone, and from nothing that people said about them."""
NLI_SCORES = {"entailment": 1.0, "neutral": 0.5, "contradiction": 0.0}


@dataclass(frozen=True)
class TrainingData:
    """Rows to train on, in arrays."""

    tokens: TokenizedTexts
    """The T distinct texts, each behind the prompt of its side; a text that is on both sides is there twice."""
    text_ids_NC: Ints
    """The texts of each row."""
    content_ids_NC: Ints
    """The texts of each row without regard to prompts: equal numbers are equal texts."""
    num_prompt_tokens_T: Ints
    """Tokens at the beginning of each text that belong to its prompt; 0 without a prompt."""
    labels_N: npt.NDArray[np.float32] | Ints | None
    """Scores or class numbers; None when the objective needs only the texts."""
    classes: tuple[str, ...] = ()
    teacher_TD: npt.NDArray[np.float32] | None = None
    """A teacher's vector of each distinct text."""
    known_pairs: KnownPairs | None = None
    """Pairs that must not be negatives, for objectives with in-batch negatives."""

    @property
    def class_numbers(self) -> Ints | None:
        """Class numbers of the N rows; None when they have scores, or nothing."""
        labels = self.labels_N
        return None if labels is None or labels.dtype.kind == "f" else labels.astype(np.int64)

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self.text_ids_NC)

    @property
    def num_columns(self) -> int:
        """Number of columns of texts."""
        return int(self.text_ids_NC.shape[1])


def choose_objective(kind: LabelKind, objective: Objective | None) -> Objective:
    """Return the objective to use for a kind of labels.

    Raises:
        TrainingError: when the objective cannot learn from this kind.
    """
    if objective is None:
        return DEFAULT_OBJECTIVES[kind]
    if kind not in ALLOWED[objective]:
        fitting = [name.value for name, kinds in ALLOWED.items() if kind in kinds]
        raise TrainingError(
            f"objective {objective} learns from {' or '.join(ALLOWED[objective])}, but the labels are {kind}: choose one of "
            f"{', '.join(fitting)}"
        )
    return objective


def with_class_names(rows: pl.DataFrame, kind: LabelKind) -> pl.DataFrame:
    """Add the name of each class as a text of the class, ``card_arrival`` as ``card arrival``.

    The name describes the class, and when a class has only a few texts it is one more. Rows of other kinds are unchanged.
    """
    if kind is not LabelKind.CLASSES:
        return rows
    names = (
        rows.select("label")
        .unique(maintain_order=True)
        .with_columns(pl.col("label").str.replace_all("_", " ").alias("text"))
    )
    return pl.concat(
        [rows, names.join(rows.select("text"), on="text", how="anti", maintain_order="left")], how="diagonal"
    )


def make_training_data(
    rows: pl.DataFrame,
    kind: LabelKind,
    objective: Objective,
    encoder: SentenceEncoder,
    *,
    teacher: SentenceEncoder | None = None,
) -> TrainingData:
    """Tokenize the texts of label rows, once each, and number them.

    Args:
        rows: label rows (`LabelSet.train`); columns ``negative_2``, ``negative_3``, … may hold further negatives.
        kind: their kind.
        objective: the objective; unsupervised objectives take every text as a row.
        encoder: whose tokenizer is used.
        teacher: encodes the texts for distillation.
    """
    if objective is Objective.RANKING and kind is LabelKind.NLI:
        rows = nli_triplets(rows)
        names = ["premise", "hypothesis", *(["negative"] if "negative" in rows.columns else [])]
    else:
        names = [*TEXT_COLUMNS[kind], *(name for name in rows.columns if name.startswith("negative_"))]
    # One text after the other, column after column, with the prompts that refresh and search would use for it.
    texts = pl.concat([_with_prompts(rows[name], side_of(name), encoder, teacher) for name in names])
    distinct = texts.unique(maintain_order=True)
    num_columns = len(names)
    if objective in WITHOUT_LABELS:
        texts, num_columns = distinct, 1
    text_ids_NC, content_ids_NC = (
        texts.join(numbered.with_row_index("number"), on=numbered.columns, how="left", maintain_order="left")["number"]
        .to_numpy()
        .astype(np.int64)
        .reshape(num_columns, -1)
        .T
        for numbered in (distinct, distinct.select("text").unique(maintain_order=True))
    )
    if objective is Objective.SIMCSE:
        # Each row holds a text twice; dropout alone makes the two vectors differ.
        text_ids_NC, content_ids_NC = np.repeat(text_ids_NC, 2, axis=1), np.repeat(content_ids_NC, 2, axis=1)
    labels, classes = _labels(rows, kind, objective)
    num_prompt_tokens = {prompt: encoder.num_prompt_tokens(prompt) for prompt in distinct["prompt"].unique()}
    return TrainingData(
        tokens=encoder.tokenize(distinct["prompt"] + distinct["text"], prompt=""),
        text_ids_NC=text_ids_NC,
        content_ids_NC=content_ids_NC,
        num_prompt_tokens_T=np.array([num_prompt_tokens[prompt] for prompt in distinct["prompt"]], dtype=np.int64),
        labels_N=labels,
        classes=classes,
        teacher_TD=None if teacher is None else _teach(teacher, distinct),
        known_pairs=KnownPairs.of(content_ids_NC) if objective is Objective.RANKING else None,
    )


def _with_prompts(
    texts: pl.Series, side: Side, encoder: SentenceEncoder, teacher: SentenceEncoder | None
) -> pl.DataFrame:
    """Return texts of one side with the prompts that the encoder and the teacher put before them."""
    return pl.DataFrame({"text": texts}).with_columns(
        prompt=pl.lit(encoder.prompt_for(side)),
        teacher_prompt=pl.lit("" if teacher is None else teacher.prompt_for(side)),
    )


def _teach(teacher: SentenceEncoder, distinct: pl.DataFrame) -> npt.NDArray[np.float32]:
    """Return the teacher's vectors of the distinct texts, shape (T, D)."""
    vectors_TD = np.empty((distinct.height, teacher.dim), dtype=np.float32)
    for prompt, rows in distinct.with_row_index("row").partition_by("teacher_prompt", as_dict=True).items():
        vectors_TD[rows["row"].to_numpy()] = teacher.encode(rows["text"], prompt=str(prompt[0]))
    return vectors_TD


def _labels(
    rows: pl.DataFrame, kind: LabelKind, objective: Objective
) -> tuple[npt.NDArray[np.float32] | Ints | None, tuple[str, ...]]:
    if objective in WITHOUT_LABELS | {Objective.RANKING, Objective.TRIPLET}:
        return None, ()
    if kind is LabelKind.SCORED_PAIRS:
        return rows["score"].to_numpy().astype(np.float32), ()
    if kind is LabelKind.NLI and objective is not Objective.SOFTMAX:
        return rows["label"].replace_strict(NLI_SCORES, return_dtype=pl.Float32).to_numpy(), ()
    classes = NLI_LABELS if kind is LabelKind.NLI else tuple(sorted(rows["label"].unique().to_list()))
    numbers = {name: number for number, name in enumerate(classes)}
    return rows["label"].replace_strict(numbers, return_dtype=pl.Int64).to_numpy(), classes


def nli_triplets(rows: pl.DataFrame) -> pl.DataFrame:
    """Return entailed pairs with a contradiction of the same premise as negative (Gao et al. 2021, SimCSE, section 4).

    When no premise has both, return the entailed pairs without negatives.

    Raises:
        TrainingError: when nothing is entailed.
    """
    entailed = rows.filter(pl.col("label") == "entailment")
    if entailed.height == 0:
        raise TrainingError(
            "objective ranking needs entailed pairs, but the NLI labels hold none: choose objective softmax"
        )
    against = rows.filter(pl.col("label") == "contradiction").unique("premise", keep="first", maintain_order=True)
    both = entailed.join(
        against.select("premise", pl.col("hypothesis").alias("negative")), on="premise", maintain_order="left"
    )
    return both if both.height else entailed
