"""Every objective against sentence-transformers' own on the same batch; those it lacks, against their formula in loops."""

import math

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses as theirs
from torch import Tensor

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import TrainingError
from sbert.training import losses as ours
from tests.support.tiny_models import save_tiny, tiny_encoder

B, D = 12, 32
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(folder: str) -> SentenceTransformer:
    return SentenceTransformer(folder, device="cpu")


def some_vectors(columns: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(B, D, generator=generator, requires_grad=True) for _ in range(columns)]


def scores() -> Tensor:
    return torch.rand(B, generator=torch.Generator().manual_seed(1)).round(decimals=1)  # with ties


CLASSES = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 0])


def pair(name: str, model: SentenceTransformer) -> tuple[torch.nn.Module, torch.nn.Module, int, Tensor | None]:
    """Our objective, theirs, number of columns, labels."""
    if name == "softmax":
        mine, reference = ours.SoftmaxLoss(D, 3), theirs.SoftmaxLoss(model, embedding_dimension=D, num_labels=3)
        reference.classifier.load_state_dict(mine.classifier.state_dict())
        return mine, reference, 2, CLASSES % 3
    both = {
        "cosine": (ours.CosineLoss(), theirs.CosineSimilarityLoss(model), 2, scores()),
        "cosent": (ours.CosentLoss(), theirs.CoSENTLoss(model), 2, scores()),
        "angle": (ours.AngleLoss(), theirs.AnglELoss(model), 2, scores()),
        "triplet": (ours.TripletLoss(margin=5), theirs.TripletLoss(model), 3, None),
        "batch hard": (ours.BatchHardTripletLoss(margin=5), theirs.BatchHardTripletLoss(model), 1, CLASSES),
        "ranking": (
            ours.RankingLoss(symmetric=False),
            theirs.MultipleNegativesRankingLoss(model),
            2,
            None,
        ),
        "ranking, negatives, temperature": (
            ours.RankingLoss(0.1, symmetric=False),
            theirs.MultipleNegativesRankingLoss(model, scale=10.0),
            4,
            None,
        ),
        "ranking, both directions": (
            ours.RankingLoss(),
            theirs.MultipleNegativesRankingLoss(
                model, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
            ),
            2,
            None,
        ),
    }
    return both[name]


@pytest.mark.parametrize(
    "name",
    [
        "softmax", "cosine", "cosent", "angle", "triplet", "batch hard", "ranking", "ranking, negatives, temperature",
        "ranking, both directions",
    ],
)  # fmt: skip
def test_value_and_gradient_are_those_of_sentence_transformers(name: str, model: SentenceTransformer) -> None:
    mine, reference, columns, labels = pair(name, model)
    vectors, copies = some_vectors(columns), some_vectors(columns)
    if isinstance(reference, theirs.SoftmaxLoss):  # has no method that takes vectors
        u, v = copies
        logits = reference.classifier(torch.cat([u, v, (u - v).abs()], 1))
        expected = reference.loss_fct(logits, labels)
    else:
        expected = reference.compute_loss_from_embeddings(copies, labels)
    loss = mine(vectors, labels)
    torch.testing.assert_close(loss, expected, **TOLERANCE)
    loss.backward()
    expected.backward()
    for ours_grad, theirs_grad in zip(vectors, copies, strict=True):
        torch.testing.assert_close(ours_grad.grad, theirs_grad.grad, **TOLERANCE)


def test_the_softmax_loss_from_texts_on_is_that_of_sentence_transformers(
    folder: str, model: SentenceTransformer
) -> None:
    """The whole way, texts to loss, with sentence-transformers' forward."""
    texts = [["reset my password", "the cat sat"], ["forgot login", "a train is late"]]
    mine, reference, _, _ = pair("softmax", model)
    encoder = SentenceEncoder.from_pretrained(folder, device="cpu", compute_dtype=ComputeDtype.FLOAT32)
    vectors = [torch.from_numpy(encoder.encode(column)) for column in texts]
    labels = torch.tensor([0, 2])
    features = [model.preprocess(column) for column in texts]
    torch.testing.assert_close(mine(vectors, labels), reference(features, labels), **TOLERANCE)


def test_the_matryoshka_loss_is_that_of_sentence_transformers(folder: str, model: SentenceTransformer) -> None:
    texts = [["reset my password", "the cat sat"], ["forgot login", "a train is late"]]
    reference = theirs.MatryoshkaLoss(model, theirs.CosineSimilarityLoss(model), matryoshka_dims=[D, 16, 8])
    mine = ours.MatryoshkaLoss(ours.CosineLoss(), (D, 16, 8), D)
    encoder = SentenceEncoder.from_pretrained(folder, device="cpu", compute_dtype=ComputeDtype.FLOAT32)
    vectors = [torch.from_numpy(encoder.encode(column)) for column in texts]
    labels = torch.tensor([0.9, 0.1])
    expected = reference([model.preprocess(column) for column in texts], labels)
    torch.testing.assert_close(mine(vectors, labels), expected, **TOLERANCE)


def test_the_distillation_loss_is_that_of_sentence_transformers_plus_the_similarity_term(
    model: SentenceTransformer,
) -> None:
    student, teacher = some_vectors(2), some_vectors(2, seed=5)
    reference = theirs.EmbedDistillLoss(model, distance_metric="mse").compute_loss_from_embeddings(student, teacher)
    similarity = 0.0
    for own, other in zip(student, teacher, strict=True):
        own_cos = torch.nn.functional.cosine_similarity(own[:, None], own[None], dim=2)
        other_cos = torch.nn.functional.cosine_similarity(other[:, None], other[None], dim=2)
        similarity += ((own_cos - other_cos) ** 2).mean() / 2
    torch.testing.assert_close(ours.DistillationLoss()(student, teacher), reference + similarity, **TOLERANCE)


def test_distillation_to_another_dim_compares_similarities_only() -> None:
    student, teacher = some_vectors(1), [torch.randn(B, 7)]
    assert ours.DistillationLoss()(student, teacher) > 0


def test_the_tsdae_loss_is_that_of_sentence_transformers(folder: str, model: SentenceTransformer) -> None:
    reference = theirs.DenoisingAutoEncoderLoss(model, tie_encoder_decoder=True).eval()
    encoder = SentenceEncoder.from_pretrained(folder, device="cpu", compute_dtype=ComputeDtype.FLOAT32)
    mine = ours.TsdaeLoss(encoder).eval()
    mine.decoder.load_state_dict(reference.decoder.state_dict())
    damaged, whole = ["reset password", "cat mat"], ["how do i reset my password", "the cat sat on the mat"]
    features = [model.preprocess(damaged), model.preprocess(whole)]
    expected = reference(features, None)
    vectors = [torch.from_numpy(encoder.encode(damaged))]
    torch.testing.assert_close(mine(vectors, features[1]["input_ids"]), expected, **TOLERANCE)


def test_tsdae_trains_the_encoder_through_the_decoder_as_well() -> None:
    encoder = tiny_encoder()
    loss = ours.TsdaeLoss(encoder)
    own = {id(parameter) for parameter in encoder.transformer.parameters()}
    shared = [name for name, parameter in loss.decoder.named_parameters() if id(parameter) in own]
    assert any("attention.self.query" in name for name in shared)
    assert any("word_embeddings" in name for name in shared)
    assert not any("crossattention" in name for name in shared)


def test_tsdae_refuses_an_architecture_without_decoder() -> None:
    with pytest.raises(TrainingError, match="DistilBertConfig has none"):
        ours.TsdaeLoss(tiny_encoder("distilbert"))


def test_the_supervised_contrastive_loss_is_that_of_its_formula() -> None:
    (vectors,) = some_vectors(1)
    unit = torch.nn.functional.normalize(vectors, dim=1).detach()
    temperature, total, counted = 0.1, 0.0, 0
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 9])  # the last is alone in its class
    for i in range(B):
        positives = [p for p in range(B) if p != i and labels[p] == labels[i]]
        if not positives:
            continue
        below = sum(math.exp(float(unit[i] @ unit[a]) / temperature) for a in range(B) if a != i)
        shares = [math.log(math.exp(float(unit[i] @ unit[p]) / temperature) / below) for p in positives]
        total -= sum(shares) / len(positives)
        counted += 1
    loss = ours.SupervisedContrastiveLoss(temperature)([vectors], labels)
    assert loss.item() == pytest.approx(total / counted, abs=1e-5)


def test_cross_entropy_is_a_linear_classifier_on_the_scaled_vector() -> None:
    loss = ours.CrossEntropyLoss(D, 4, scale=3.0)
    (vectors,) = some_vectors(1)
    logits = vectors @ loss.classifier.weight.T * 3.0 + loss.classifier.bias
    expected = -logits.log_softmax(1)[torch.arange(B), CLASSES].mean()
    torch.testing.assert_close(loss([vectors], CLASSES), expected, **TOLERANCE)


def test_equal_texts_in_a_batch_have_finite_gradients() -> None:
    vectors = torch.ones(4, D, requires_grad=True)
    ours.BatchHardTripletLoss()([vectors], torch.tensor([0, 0, 1, 1])).backward()
    assert vectors.grad is not None
    assert torch.isfinite(vectors.grad).all()


def test_matryoshka_refuses_dims_and_classifiers_that_cannot_work() -> None:
    with pytest.raises(TrainingError, match=r"64.*32 values"):
        ours.MatryoshkaLoss(ours.CosineLoss(), (64,), 32)
    with pytest.raises(TrainingError, match="SoftmaxLoss"):
        ours.MatryoshkaLoss(ours.SoftmaxLoss(32, 3), (32,), 32)
