"""Figures of embeddings on pairs against sentence-transformers' own evaluators."""

import numpy as np
import pytest
from scipy import stats

from compiler.data import Split
from compiler.tasks import task_named
from compiler.tasks.vector_pairs import VectorPairs

RNG = np.random.default_rng(0)
QUERIES, DOCUMENTS, SIZE = 12, 40, 16


class Table:
    """A model that knows the vector of every text."""

    def __init__(self, vectors):
        self.vectors = vectors
        self.similarity_fn_name = None
        self.model_card_data = type("Card", (), {"set_evaluation_metrics": lambda *_, **__: None})()

    def encode(self, texts, **_):
        import torch

        return torch.from_numpy(np.stack([self.vectors[text] for text in texts]))

    encode_query = encode_document = encode


def retrieval():
    """Pairs with grades 0 and 1, several documents a query, and a query without any to find."""
    pairs, labels = [], []
    for query in range(QUERIES):
        for document in RNG.choice(DOCUMENTS, 5, replace=False):
            pairs.append((f"q{query}", f"d{document}"))
            labels.append(float(query > 0 and RNG.random() < 0.5))
        labels[-1] = float(query > 0)
    return Split(texts=tuple(pairs), labels=np.array(labels))


def test_retrieval_is_that_of_sentence_transformers():
    from sentence_transformers.evaluation import InformationRetrievalEvaluator
    from sentence_transformers.util import cos_sim

    split = retrieval()
    pairs = VectorPairs.of(split, ("query", "passage"))
    vectors = {text: RNG.normal(size=SIZE).astype(np.float32) for text in (*pairs.first, *pairs.second)}
    relevant = {query: set() for query in pairs.first}
    for (query, document), label in zip(split.texts, split.labels, strict=True):
        if label > 0:
            relevant[query].add(document)
    evaluator = InformationRetrievalEvaluator(
        {query: query for query in pairs.first if relevant[query]}, {d: d for d in pairs.second}, relevant,
        ndcg_at_k=[10], precision_recall_at_k=[10], main_score_function="cosine",
        score_functions={"cosine": cos_sim},
    )  # fmt: skip
    theirs = evaluator.compute_metrices(Table(vectors))["cosine"]
    ours = pairs.figures(*(np.stack([vectors[text] for text in side]) for side in (pairs.first, pairs.second)))
    assert ours["retrieval_ndcg_at_10"] == pytest.approx(theirs["ndcg@k"][10])
    assert ours["retrieval_recall_at_10"] == pytest.approx(theirs["recall@k"][10])


def test_likeness_of_pairs_is_spearmans_correlation_with_their_scores():
    texts = tuple((f"a{i % 7}", f"b{i}") for i in range(30))
    scores = RNG.random(30)
    pairs = VectorPairs.of(Split(texts=texts, labels=scores), ("sentence1", "sentence2"))
    first, second = RNG.normal(size=(7, SIZE)), RNG.normal(size=(30, SIZE))
    cosines = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(first[np.arange(30) % 7], second, strict=True)
    ]
    found = pairs.figures(first, second, (4,))
    assert found["similarity_spearman"] == pytest.approx(stats.spearmanr(cosines, scores).statistic)
    assert found["similarity_spearman_of_4_dimensions"] == pytest.approx(
        pairs.figures(first[:, :4], second[:, :4])["similarity_spearman"]
    )


def test_pairs_that_nothing_says_the_use_of_are_none():
    split = Split(texts=(("a", "b"),), labels=None)
    assert VectorPairs.of(split, ("sentence1", "sentence2")) is None
    assert VectorPairs.of(split, ("text",)) is None
    assert VectorPairs.of(split, ("anchor", "positive")).directed
    assert VectorPairs.of(Split(texts=(("a", "b"),), labels=np.zeros(1)), ("query", "text")) is None


def test_metrics_of_cut_vectors_are_those_of_their_first_dimensions():
    task = task_named("embedding")
    cosine, overlap = task.truncated(4)
    ours, dense = RNG.normal(size=(30, SIZE)), RNG.normal(size=(30, SIZE))
    assert cosine.name == "mean_cosine_of_4_dimensions"
    assert cosine.score(ours, dense) == pytest.approx(task.metrics[0].score(ours[:, :4], dense[:, :4]))
    assert cosine.values(ours, dense).mean() == pytest.approx(cosine.score(ours, dense))
    assert overlap.score(ours, dense) == pytest.approx(task.metrics[1].score(ours[:, :4], dense))
