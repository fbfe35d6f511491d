"""Measure answers: ranking and refusal on FAQs, and the cost of a night. `answers_training` tunes encoders for them.

    python -m tests.benchmarks.answers faq DATA/stackfaq [--model FOLDER] [--search]
    python -m tests.benchmarks.answers hidden DATA/stackfaq [--model FOLDER] --seeds 0,1,2
    python -m tests.benchmarks.answers covid DATA/covid_faq
    python -m tests.benchmarks.answers cost

The folders of data hold: stackfaq: stackExchange-FAQ.json; covid_faq: faq_200327.tsv and eval_question_similarity_en.csv.
The weight of words is chosen on the FAQ's own pairs of question and answer, never on rephrasings. ``--search`` shows what no
choice could exceed: the weights that are best for the rephrasings themselves.
"""

import argparse
import csv
import itertools
import json
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.metrics import roc_auc_score

from sbert.apply.answers.decide import AnswerDecision
from sbert.apply.answers.model import load_model
from sbert.apply.answers.run import answer_questions
from sbert.apply.answers.settings import AnswerSettings
from sbert.apply.answers.shared_words import answer_words, count_words, question_words
from sbert.derived.derived_table import DerivedTable
from sbert.encoder.model_location import DEFAULT_MODEL
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.evaluation.metric import Metric, interval
from sbert.evaluation.statistics import mean
from tests.benchmarks.answers_cost import cost
from tests.benchmarks.harness import print_table
from tests.support.refreshing import refreshed

Matrix = np.ndarray[Any, Any]
DISCOUNTS = 1 / np.log2(np.arange(10) + 2)
SEARCHED_WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8)
"""Weights of the other scores beside the question's, all combinations of which ``--search`` tries."""
WORD_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0)
RATIOS = (*WORD_WEIGHTS, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0)


def faq_entries(folder: Path) -> list[dict[str, Any]]:
    """Return the entries with their holes left out."""
    entries = json.loads((folder / "stackExchange-FAQ.json").read_text())["root"]["qapair"]
    return [
        {
            "question": entry["question"],
            "answers": [text for text in entry["answer"] if text],
            "rephrasings": [text for text in entry["rephr"] if text and text != "*"],
        }
        for entry in entries
    ]


def words(questions: Sequence[str], answers: Sequence[str]) -> Matrix:
    """Return the match of words of all pairs."""
    counts = count_words(pl.Series(answers))
    return question_words(questions, counts).scores(answer_words(pl.Series(answers), counts)).toarray()


def ndcg(scores: Matrix, relevant: Sequence[set[int]]) -> Matrix:
    """Return nDCG@10 of each question."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    values = []
    for row, wanted in zip(order, relevant, strict=True):
        hits = np.array([number in wanted for number in row])
        values.append(float((hits * DISCOUNTS[: len(row)]).sum() / DISCOUNTS[: min(10, len(wanted))].sum()))
    return np.array(values)


def shown(values: Matrix) -> str:
    """Return a mean with its 95 % interval."""
    estimate = interval(Metric("mean", (values,), mean), num_resamples=1_000, confidence=0.95, seed=0)
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def per_entry(scores: Matrix, entry_of: Matrix, num: int) -> Matrix:
    """Return the best score of the rows of each entry."""
    best = np.full((len(scores), num), -np.inf)
    for number in range(num):
        best[:, number] = scores[:, entry_of == number].max(axis=1)
    return best


def encoder_of(arguments: argparse.Namespace) -> SentenceEncoder:
    return SentenceEncoder.from_pretrained(arguments.model or DEFAULT_MODEL)


def faq(arguments: argparse.Namespace) -> None:
    """Rank the entries for each rephrasing: by answers alone, and with the entries' questions."""
    entries, encoder = faq_entries(Path(arguments.data)), encoder_of(arguments)
    num = len(entries)
    own = [entry["question"] for entry in entries]
    posts = [(at, post) for at, entry in enumerate(entries) for post in entry["answers"]]
    asked = [(at, text) for at, entry in enumerate(entries) for text in entry["rephrasings"]]
    entry_of, texts = np.array([at for at, _ in posts]), [text for _, text in posts]
    whole = [" ".join(entry["answers"]) for entry in entries]
    posts_ND, whole_ND, own_ND = (encoder.encode(each, side=Side.DOCUMENT) for each in (texts, whole, own))

    def parts(questions: list[str]) -> tuple[Matrix, Matrix, Matrix, Matrix, Matrix]:
        vectors = encoder.encode(questions, side=Side.QUERY)
        by_post = per_entry(vectors @ posts_ND.T, entry_of, num)
        return (
            vectors @ whole_ND.T,
            by_post,
            words(questions, whole),
            vectors @ own_ND.T,
            words(questions, [f"{left} {right}" for left, right in zip(own, whole, strict=True)]),
        )

    every = [{at} for at in range(num)]
    joined, post, word, _, _ = parts(own)
    best_weights = {
        name: max(WORD_WEIGHTS, key=lambda weight: float(ndcg(scores + weight * word, every).mean()))
        for name, scores in (("whole", joined), ("post", post), ("both", (joined + post) / 2))
    }
    right = [{at} for at, _ in asked]
    joined, post, word, question, all_words = parts([text for _, text in asked])
    rows = [
        ["words of the answer (BM25)", "", shown(ndcg(word, right))],
        ["answer, one vector", "", shown(ndcg(joined, right))],
        ["answer and words", f"{best_weights['whole']}", shown(ndcg(joined + best_weights["whole"] * word, right))],
        ["best post of the answer", "", shown(ndcg(post, right))],
        ["best post and words", f"{best_weights['post']}", shown(ndcg(post + best_weights["post"] * word, right))],
        [
            "answer, best post and words",
            f"{best_weights['both']}",
            shown(ndcg((joined + post) / 2 + best_weights["both"] * word, right)),
        ],
        ["question", "", shown(ndcg(question, right))],
        [
            "question, answer and words, fixed weights",
            "",
            shown(ndcg(0.5 * question + 0.3 * joined + 0.2 * all_words, right)),
        ],
    ]
    if arguments.search:
        weights = max(
            itertools.product(SEARCHED_WEIGHTS, SEARCHED_WEIGHTS, SEARCHED_WEIGHTS),
            key=lambda each: float(ndcg(question + fused(each, joined, post, all_words), right).mean()),
        )
        best = ndcg(question + fused(weights, joined, post, all_words), right)
        names = ", ".join(
            f"{weight:g} {name}" for weight, name in zip(weights, ("answer", "post", "words"), strict=True)
        )
        rows.append([f"question and {names}: the best weights in hindsight", "", shown(best)])
    print_table(f"nDCG@10 of {len(asked):,} rephrasings", ["score", "weight of words", "nDCG@10"], rows)


def fused(weights: Sequence[float], *scores: Matrix) -> Matrix:
    """Return the weighted sum of scores."""
    return np.asarray(sum(weight * score for weight, score in zip(weights, scores, strict=True)))


def hidden_entries(num: int, seed: int) -> set[int]:
    """Return the fifth of the entries that is hidden."""
    return set(_shuffled(num, seed)[: num // 5])


def _shuffled(num: int, seed: int) -> list[int]:
    order = list(range(num))
    random.Random(seed).shuffle(order)
    return order


def hidden(arguments: argparse.Namespace) -> None:
    """Hide a fifth of the entries; fit to the rephrasings of half of the others; answer all other rephrasings."""
    entries = faq_entries(Path(arguments.data))
    figures: list[list[str]] = []
    for seed in arguments.seeds:
        order = _shuffled(len(entries), seed)
        left_out, labelled = hidden_entries(len(entries), seed), set(order[len(order) // 5 : 3 * len(order) // 5])
        with tempfile.TemporaryDirectory(prefix="sbert-bench-") as name:
            folder = Path(name)
            kept = [
                {"id": str(at), "question": entry["question"], "answer": " ".join(entry["answers"])}
                for at, entry in enumerate(entries)
                if at not in left_out
            ]
            asked = [
                {"id": f"{at}-{number}", "text": text}
                for at, entry in enumerate(entries)
                if at not in labelled
                for number, text in enumerate(entry["rephrasings"])
            ]
            pairs = [
                {"anchor": text, "positive": " ".join(entries[at]["answers"])}
                for at in sorted(labelled)
                for text in entries[at]["rephrasings"]
            ]
            for file, lines in (("faq", kept), ("tickets", asked), ("pairs", pairs)):
                (folder / f"{file}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            for table, file, column in (("q", "faq", "question"), ("a", "faq", "answer"), ("t", "tickets", "text")):
                keep = ["question", "answer"] if file == "faq" else ["text"]
                source = {"text_column": column, "keep_columns": keep}
                refreshed(folder / f"{file}.jsonl", folder / table, arguments.model, settings={"source": source})
            share = sum(int(row["id"].split("-")[0]) in left_out for row in asked) / len(asked)
            settings = AnswerSettings(
                promised_error=arguments.promise,
                unanswerable_share=share,
                answer_columns=("question", "answer"),
                seed=seed,
            )
            answer_questions(
                str(folder / "t"), str(folder / "q"), str(folder / "out"), settings,
                second_uri=str(folder / "a"), labels_uri=str(folder / "pairs.jsonl"),
            )  # fmt: skip
            figures.append(_refusals(DerivedTable.open(str(folder / "out")), left_out, seed))
    header = [
        "seed",
        "AUROC, visible or hidden",
        "promised",
        "error",
        "wrong answers that are hidden",
        "answered of visible",
    ]
    print_table("a fifth of the entries hidden", header, figures)


def _refusals(output: DerivedTable, left_out: set[int], seed: int) -> list[str]:
    rows = output.scan().collect()
    entry = [int(each.split("-")[0]) for each in rows["id"]]
    is_visible = np.array([each not in left_out for each in entry])
    is_right = np.array(
        [answers[0]["id"] == str(at) for answers, at in zip(rows["answers"].to_list(), entry, strict=True)]
    )
    given = (rows["decision"] == AnswerDecision.ANSWER.value).to_numpy()
    wrong = given & ~is_right
    promise = load_model(output.info.settings["model_uri"]).record.promised_error
    return [
        str(seed),
        f"{roc_auc_score(is_visible, rows['probability'].to_numpy()):.3f}",
        f"{promise:.1%}",
        shown((~is_right[given]).astype(float)),
        f"{(wrong & ~is_visible).sum()} of {wrong.sum()}",
        f"{given[is_visible].mean():.1%}",
    ]


def cross_fitted(near: Matrix, word: Matrix, right: Sequence[set[int]]) -> Matrix:
    """Return nDCG@10 of each question, with the weight of words that is best on the other four fifths of the questions."""
    values = np.array([ndcg(near + weight * word, right) for weight in RATIOS])
    fold = np.random.default_rng(0).integers(0, 5, len(right))
    best = [values[:, fold != number].mean(axis=1).argmax() for number in range(5)]
    return np.array([values[best[number], at] for at, number in enumerate(fold)])


def covid(arguments: argparse.Namespace) -> None:
    """Question to answer in each language, and the labelled pairs of questions."""
    folder, encoder = Path(arguments.data), encoder_of(arguments)
    weights = AnswerSettings().weights
    with (folder / "faq_200327.tsv").open(newline="") as file:
        entries = [
            (row["lang"], row["question"].strip(), row["answer"].strip())
            for row in csv.DictReader(file, delimiter="\t")
        ]
    rows = []
    for language in ("en", "de", "pl", "it", "sv"):
        own = [(question, answer) for lang, question, answer in entries if lang == language and question and answer]
        questions, answers = (list(dict.fromkeys(pair[side] for pair in own)) for side in (0, 1))
        right: list[set[int]] = [set() for _ in questions]
        for question, answer in own:
            right[questions.index(question)].add(answers.index(answer))
        near = encoder.encode(questions, side=Side.QUERY) @ encoder.encode(answers, side=Side.DOCUMENT).T
        word = words(questions, answers)
        figures = [ndcg(word, right), ndcg(near, right), cross_fitted(near, word, right)]
        rows.append([language, str(len(questions)), *map(shown, figures)])
    header = ["language", "questions", "words", "vectors", "both, weight fitted"]
    print_table("question to answer, nDCG@10", header, rows)
    pairs = pl.read_csv(folder / "eval_question_similarity_en.csv")
    left, right_texts = pairs["question_1"].to_list(), pairs["question_2"].to_list()
    near = (encoder.encode(left) * encoder.encode(right_texts)).sum(axis=1)
    word = (words(left, right_texts).diagonal() + words(right_texts, left).diagonal()) / 2
    truth = pairs["similar"].to_numpy()
    both = weights.cosine * near + weights.words * word
    scores = [f"{roc_auc_score(truth, each):.3f}" for each in (word, near, both)]
    header = ["pairs", "words", "vectors", "both, fixed weights"]
    print_table("labelled pairs of questions, AUROC", header, [[str(len(truth)), *scores]])


CASES: dict[str, Callable[[argparse.Namespace], None]] = {
    "faq": faq,
    "hidden": hidden,
    "covid": covid,
    "cost": cost,
}


def main() -> None:
    """Measure one case and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("data", nargs="?", help="folder of the data")
    parser.add_argument("--model", help="encoder; by default the packaged one")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0])
    parser.add_argument(
        "--search",
        action="store_true",
        help="faq: also the weights beside the question's score that are best in hindsight",
    )
    parser.add_argument("--promise", type=float, default=0.1, help="promised error")
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    CASES[arguments.case](arguments)


if __name__ == "__main__":
    main()
