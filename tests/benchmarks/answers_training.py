"""Tune encoders for answers: dialogues on their train part, a FAQ on its own pairs of a question and an answer.

    python -m tests.benchmarks.answers_training dialogue DATA/sgd_utterances FOLDER --pairs 40000
    python -m tests.benchmarks.answers_training dialogue DATA/sgd_utterances
    python -m tests.benchmarks.answers_training faq DATA/stackfaq FOLDER
    python -m tests.benchmarks.answers faq DATA/stackfaq --model FOLDER/model

`dialogue` chooses the system's turn that follows among 100, by the vector of the last turns, and prints two ways to make it:
of the turns joined to one text, and as the mean that `context_turns` makes of the vectors of single turns. Settings are those of the
recipe ``classes``; to choose others, ``--held-out-only`` measures dialogues of the train part that are never trained on. With FOLDER
the encoder is trained first; without, it is the packaged one or that of ``--model``. On a busy machine set OMP_NUM_THREADS=1.

`faq` trains on pairs of an entry's question and one of its posts, and of its question and all posts. No rephrasing is seen.
``--without SEED`` leaves out the entries that the case `hidden` of `tests.benchmarks.answers` hides with that seed.
"""

import argparse
import gzip
import json
import random
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from sbert.apply.answers.questions import with_context
from sbert.encoder.model_location import DEFAULT_MODEL
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.labels.label_kinds import LabelKind
from sbert.labels.load import make_label_set
from sbert.labels.settings import LabelSettings
from sbert.training.settings import TrainingSettings
from sbert.training.train import train_encoder
from sbert.vectors.precision import Float32
from tests.benchmarks.answers import faq_entries, hidden_entries, shown
from tests.benchmarks.harness import print_table

MAX_TURNS = 3
NUM_ASKED = 3_000
NUM_CHOSEN_ON = 1_000
AMONG = 100
NUM_HELD_OUT = 600
"""Dialogues of the train part that settings are chosen on."""
DECAYS = (0.25, 0.5, 1.0)
MAX_POSTS = 6
"""Posts of one entry that are trained on: one entry has 681."""
MAX_CHARACTERS = 600
"""Length of a post that is trained on."""


class Exchange:
    """A system's turn with the turns before it, of which the last is a user's."""

    def __init__(self, dialogue: str, turns: Sequence[str], reply: str) -> None:
        self.dialogue, self.turns, self.reply = dialogue, tuple(turns), reply


def exchanges_of(folder: Path, part: str) -> list[Exchange]:
    """Return the exchanges of all dialogues, each with up to three turns before the reply."""
    exchanges, history, dialogue = [], [], ""
    with gzip.open(folder / f"{part}.jsonl.gz", "rt") as file:
        for line in file:
            row = json.loads(line)
            own = row["id"].split("#")[0]
            if own != dialogue:
                history, dialogue = [], own
            if history and row["speaker"] == "SYSTEM" and history[-1][0] == "USER":
                exchanges.append(Exchange(own, [text for _, text in history[-MAX_TURNS:]], row["text"]))
            history.append((row["speaker"], row["text"]))
    return exchanges


def hits(asked_QD: Float32, replies_QD: Float32) -> Float32:
    """Return 1 for each reply that is the best of its hundred, else 0."""
    parts = [slice(first, first + AMONG) for first in range(0, len(asked_QD), AMONG)]
    return np.concatenate(
        [
            ((asked_QD[part] @ replies_QD[part].T).argmax(axis=1) == np.arange(AMONG)).astype(np.float32)
            for part in parts
        ]
    )


def selection(encoder: SentenceEncoder, exchanges: list[Exchange], num_asked: int) -> list[list[str]]:
    """Return the share of right replies for each way to make a query."""
    exchanges = list(exchanges)
    random.Random(0).shuffle(exchanges)
    exchanges = exchanges[:num_asked]
    replies_QD = encoder.encode([each.reply for each in exchanges])
    rows = []
    for turns in (1, MAX_TURNS):
        joined = encoder.encode([" ".join(each.turns[-turns:]) for each in exchanges])
        rows.append([f"{turns}", "joined", shown(hits(joined, replies_QD))])
    texts = list(dict.fromkeys(text for each in exchanges for text in each.turns))
    vectors = dict(zip(texts, encoder.encode(texts), strict=True))
    for decay in DECAYS:
        mixed = np.stack([with_context([vectors[text] for text in each.turns], decay) for each in exchanges])
        rows.append([f"{MAX_TURNS}", f"mean of vectors, decay {decay:g}", shown(hits(mixed, replies_QD))])
    return rows


def dialogue(arguments: argparse.Namespace) -> None:
    """Choose the system's turn that follows among 100."""
    folder = Path(arguments.data)
    train = exchanges_of(folder, "train")
    names = sorted({each.dialogue for each in train})
    random.Random(0).shuffle(names)
    held_out = set(names[:NUM_HELD_OUT])
    if arguments.folder:
        chance = random.Random(arguments.seed)
        own = [each for each in train if each.dialogue not in held_out]
        chance.shuffle(own)
        pairs = [(" ".join(each.turns[-chance.randint(1, MAX_TURNS) :]), each.reply) for each in own[: arguments.pairs]]
        train_on(pairs, settings_of(arguments, batch_size=128, epochs=1), arguments.folder)
    encoder = encoder_for(arguments)
    parts = {"held out of train": ([each for each in train if each.dialogue in held_out], NUM_CHOSEN_ON)}
    if not arguments.held_out_only:
        parts["dev"] = (exchanges_of(folder, "dev"), NUM_ASKED)
    for name, (exchanges, num_asked) in parts.items():
        rows = selection(encoder, exchanges, num_asked)
        print_table(f"response selection, {name}", ["turns", "query", "right of 100"], rows)


def faq(arguments: argparse.Namespace) -> None:
    """Tune the encoder on the FAQ's own pairs of a question and a post."""
    entries = faq_entries(Path(arguments.data))
    left_out = set() if arguments.without is None else hidden_entries(len(entries), arguments.without)
    pairs = []
    for number, entry in enumerate(entries):
        if number not in left_out:
            posts = [*entry["answers"][:MAX_POSTS], " ".join(entry["answers"])]
            pairs += [(entry["question"], post) for post in dict.fromkeys(post[:MAX_CHARACTERS] for post in posts)]
    train_on(pairs, settings_of(arguments, batch_size=32, epochs=3), arguments.folder)


def settings_of(arguments: argparse.Namespace, *, batch_size: int, epochs: float) -> TrainingSettings:
    """Return the rate and the trained layers of the recipe ``classes``, with the size of batches and the epochs of a case."""
    return TrainingSettings(
        batch_size=arguments.batch or batch_size, epochs=arguments.epochs or epochs, learning_rate=arguments.rate or 2e-4,
        dropout=0.0, freeze="layers", freeze_layers=3, seed=arguments.seed,
    )  # fmt: skip


def encoder_for(arguments: argparse.Namespace) -> SentenceEncoder:
    """Return the encoder that was trained, or is named, or is packaged."""
    trained = f"{arguments.folder}/model" if arguments.folder else None
    return SentenceEncoder.from_pretrained(trained or arguments.model or DEFAULT_MODEL)


def train_on(pairs: Iterable[tuple[str, str]], settings: TrainingSettings, folder: str) -> None:
    """Train on all pairs, and keep the last checkpoint as ``model`` in a folder."""
    rows = pl.DataFrame(list(pairs), schema=["anchor", "positive"], orient="row")
    labels = make_label_set(rows, LabelKind.PAIRS, LabelSettings(test_share=0.0, dev_share=0.0))
    with tempfile.TemporaryDirectory() as work:
        result = train_encoder(DEFAULT_MODEL, labels, settings, work)
        shutil.copytree(result.folder, Path(folder) / "model", dirs_exist_ok=True)
    print(
        f"{rows.height:,} pairs, {result.num_steps} steps, {result.seconds:.0f} s, {result.tokens_per_second:,.0f} tokens/s"
    )


def main() -> None:
    """Measure one case and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cases = {"dialogue": dialogue, "faq": faq}
    parser.add_argument("case", choices=cases)
    parser.add_argument("data", help="folder of the data")
    parser.add_argument("folder", nargs="?", help="folder for the encoder that is trained")
    parser.add_argument("--model", help="encoder that is measured without training; by default the packaged one")
    parser.add_argument("--pairs", type=int, default=40_000, help="exchanges that are trained on")
    parser.add_argument("--batch", type=int, help="rows of a step")
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--rate", type=float, help="learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without", type=int, help="seed of the case `hidden` whose hidden entries are left out")
    parser.add_argument("--held-out-only", action="store_true", help="do not measure dev: for choosing settings")
    arguments = parser.parse_args()
    cases[arguments.case](arguments)


if __name__ == "__main__":
    main()
