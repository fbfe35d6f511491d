"""The examples of a ranker: documents with the ROUGE-1 of each of their sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from sbert.apply.summaries.documents import Document
from sbert.apply.summaries.ranker import ranker_inputs
from sbert.apply.summaries.rouge import Ngrams, best_rouge, ngrams
from sbert.apply.summaries.sentence_vectors import sentence_vectors
from sbert.apply.summaries.sentences import SentenceList, split_documents, terms_of_texts
from sbert.apply.summaries.wording import count_runs
from sbert.table.delta import Table
from sbert.vectors.precision import Float32

__all__ = ["Example", "example_of", "make_examples"]


@dataclass(frozen=True)
class Example:
    """A document of S sentences that people summarised."""

    sentences: SentenceList
    vectors_SD: Float32
    inputs_SI: Float32
    """Inputs of a ranker for each sentence, beside its wording."""
    runs_SW: scipy.sparse.csr_matrix
    """Runs of terms of each sentence."""
    rouge_S: Float32
    """ROUGE-1 of each sentence alone, with the reference that it is highest with."""
    references: tuple[Ngrams, ...]


def make_examples(
    table: Table, documents: Sequence[Document], references: Mapping[str, tuple[str, ...]], max_sentences: int
) -> list[Example]:
    """Return the documents that have a choice: at least two sentences, not all equally good.

    Args:
        table: its encoder makes the vectors.
        documents: documents of the table.
        references: the summaries of each document, by its id.
        max_sentences: sentences of a document that are ranked.
    """
    sentences = split_documents(documents, max_sentences)
    vectors = sentence_vectors(table, sentences)
    made = [
        example_of(sentence_list, vectors_SD, references[document.id])
        for document, sentence_list, vectors_SD in zip(documents, sentences, vectors, strict=True)
        if len(sentence_list) > 1
    ]
    return [example for example in made if np.ptp(example.rouge_S) > 0]


def example_of(sentences: SentenceList, vectors_SD: Float32, references: Sequence[str]) -> Example:
    """Return one document as an example."""
    counts = tuple(ngrams(terms) for terms in terms_of_texts(references))
    return Example(
        sentences=sentences,
        vectors_SD=vectors_SD,
        inputs_SI=ranker_inputs(sentences, vectors_SD),
        runs_SW=count_runs(sentences.terms),
        rouge_S=np.array([best_rouge(ngrams(terms), counts) for terms in sentences.terms], np.float32),
        references=counts,
    )
