"""Routes that give something for each text or pair, by requests to a server of a stand-in graph whose answers are known."""

import base64
import itertools
import json
import math
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from compiler.export.serving import server_script
from compiler.families import EmbeddingRecipe
from compiler.families.embedding import Normalize
from compiler.tasks import TASKS
from tests import served
from tests.cli import texts
from tests.served_tasks import log_softmax, server, words

NORMALISED = EmbeddingRecipe(steps=(Normalize(),))
classification = server("classification", size=3, labels=("bad", "fair", "good"))
multi_label = server("multi_label", size=3, labels=("bad", "fair", "good"))
regression = server("regression", size=1)
embedding = server("embedding", "sentence_embedding", 6)
reranking = server("reranking", size=1)

SENTENCES = ["a great film", "the river", " ".join(texts(5)), "cold water"]


def test_every_task_has_a_part():
    for task in TASKS:
        checkpoint = SimpleNamespace(
            tokenizer=words(),
            model=SimpleNamespace(recipe=None),
            task=TASKS[task],
            max_tokens=64,
            label_names=("a",),
        )
        source = server_script(Path("model.onnx"), checkpoint, "cpu", 1)
        compile(source, task, "exec")
        assert all(f'"{path}"' in source for path in TASKS[task].route.paths)


@pytest.mark.parametrize("task", ["classification", "multi_label", "regression", "embedding", "reranking"])
def test_the_example_of_the_page_is_answered(task, request):
    assert request.getfixturevalue(task).example()


def test_classes_add_up_to_one(classification):
    found = classification.ask("/classify", {"inputs": SENTENCES})
    wanted = [np.exp(log_softmax(classification.alone(text))) for text in SENTENCES]
    assert [list(row) for row in found] == [["bad", "fair", "good"]] * 4
    np.testing.assert_allclose([list(row.values()) for row in found], wanted, atol=1e-5)


def test_one_text_may_stand_alone(classification):
    assert classification.ask("/classify", {"inputs": SENTENCES[0]}) == classification.ask(
        "/classify", {"inputs": SENTENCES[:1]}
    )


def test_a_pair_is_not_two_texts(classification):
    (found,) = classification.ask("/classify", {"inputs": [SENTENCES[:2]]})
    wanted = np.exp(log_softmax(classification.alone(*SENTENCES[:2])))
    np.testing.assert_allclose(list(found.values()), wanted, atol=1e-5)
    assert classification.refused("/classify", {"inputs": [SENTENCES[:2], "one"]})[0] == 422


def test_the_old_route_is_gone(classification):
    assert classification.refused("/predict", {"inputs": SENTENCES})[0] == 404


def test_labels_stand_for_themselves(multi_label):
    found = multi_label.ask("/classify", {"inputs": SENTENCES})
    wanted = [1 / (1 + np.exp(-multi_label.alone(text))) for text in SENTENCES]
    np.testing.assert_allclose([list(row.values()) for row in found], wanted, atol=1e-5)


def test_scores(regression):
    found = regression.ask("/score", {"inputs": SENTENCES})
    np.testing.assert_allclose([row["score"] for row in found], [regression.alone(t)[0] for t in SENTENCES], atol=1e-5)


def test_embeddings(embedding):
    found = embedding.ask("/embed", {"inputs": SENTENCES})
    np.testing.assert_allclose(found, [embedding.alone(text) for text in SENTENCES], atol=1e-5)
    assert embedding.ask("/embed", {"inputs": SENTENCES[:1], "dimensions": 6}) == found[:1]
    status, answer = embedding.refused("/embed", {"inputs": SENTENCES, "dimensions": 4})
    assert (status, "have 6" in answer) == (400, True)


@pytest.mark.parametrize("form", ["float", "base64"])
def test_embeddings_in_openai_s_form(embedding, form):
    found = embedding.ask("/v1/embeddings", {"input": SENTENCES, "model": "x", "encoding_format": form})
    vectors = [each["embedding"] for each in found["data"]]
    if form == "base64":
        vectors = [np.frombuffer(base64.b64decode(vector), "<f4") for vector in vectors]
    np.testing.assert_allclose(vectors, [embedding.alone(text) for text in SENTENCES], atol=1e-5)
    tokens = sum(len(embedding.tokenizer(text, truncation=True, max_length=64)["input_ids"]) for text in SENTENCES)
    assert found["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert [each["index"] for each in found["data"]] == [0, 1, 2, 3]
    with urllib.request.urlopen(f"{embedding.address}/v1/models") as answer:
        assert json.load(answer)["data"][0]["id"] == found["model"]


def test_openai_s_own_client(embedding):
    openai = pytest.importorskip("openai", reason="the openai package is not installed")
    client = openai.OpenAI(base_url=f"{embedding.address}/v1", api_key="none", max_retries=0)
    (model,) = client.models.list()
    wanted = [embedding.alone(text) for text in SENTENCES]
    for extra in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}, {"dimensions": 6}):
        found = client.embeddings.create(model=model.id, input=SENTENCES, **extra)
        vectors = [each.embedding for each in found.data]
        if extra.get("encoding_format") == "base64":
            vectors = [np.frombuffer(base64.b64decode(v), "<f4") if isinstance(v, str) else v for v in vectors]
        np.testing.assert_allclose(vectors, wanted, atol=1e-5)
        assert found.model == model.id
        assert found.usage.total_tokens > 0
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model=model.id, input="a text", dimensions=3)
    assert "have 6" in refused.value.body["message"]
    with pytest.raises(openai.UnprocessableEntityError):
        client.embeddings.create(model=model.id, input=[[1, 2, 3]])  # ids of another tokenizer


def test_smaller_embeddings_where_the_model_has_them(tmp_path):
    served.context_graph(tmp_path / "model.onnx", "sentence_embedding", 6, len(words()))
    module = served.imported(served.write_server(tmp_path, "embedding", words(), recipe=NORMALISED))
    module.DIMENSIONS = [2]
    vectors = [np.array([3.0, 4.0, 9.0, 1.0, 1.0, 1.0])]
    np.testing.assert_allclose(module.sized(vectors, 2), [[0.6, 0.8]])
    assert module.sized(vectors, 6) is vectors
    with pytest.raises(module.HTTPException, match="have 2, 6"):
        module.sized(vectors, 3)


def relevance(running, query, documents):
    return [1 / (1 + math.exp(-running.alone(query, text)[0])) for text in documents]


def test_ranking_as_text_embeddings_inference_does(reranking):
    scores = relevance(reranking, "the price", SENTENCES)
    found = reranking.ask("/rerank", {"query": "the price", "texts": SENTENCES, "return_text": True})
    order = sorted(range(4), key=lambda i: -scores[i])
    assert [each["index"] for each in found] == order
    assert [each["text"] for each in found] == [SENTENCES[i] for i in order]
    np.testing.assert_allclose([each["score"] for each in found], [scores[i] for i in order], atol=1e-5)
    raw = reranking.ask("/rerank", {"query": "the price", "texts": SENTENCES, "raw_scores": True})
    wanted = [reranking.alone("the price", SENTENCES[each["index"]])[0] for each in raw]
    np.testing.assert_allclose([each["score"] for each in raw], wanted, atol=1e-5)


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_ranking_as_cohere_does(reranking, path):
    scores = relevance(reranking, "the price", SENTENCES)
    documents = [SENTENCES[0], {"text": SENTENCES[1]}, *SENTENCES[2:]]
    body = {"model": "x", "query": "the price", "documents": documents, "top_n": 2, "return_documents": True}
    results = reranking.ask(path, body)["results"]
    order = sorted(range(4), key=lambda i: -scores[i])[:2]
    assert [each["index"] for each in results] == order
    assert [each["document"]["text"] for each in results] == [SENTENCES[i] for i in order]
    np.testing.assert_allclose([each["relevance_score"] for each in results], [scores[i] for i in order], atol=1e-5)


@pytest.mark.parametrize(
    "extra", [{}, {"texts": ["a"], "documents": ["a"]}, {"texts": []}, {"texts": ["a"], "top_n": 0}]
)
def test_a_ranking_of_nothing_or_of_two_lists_is_refused(reranking, extra):
    assert reranking.refused("/rerank", {"query": "the price", **extra})[0] == 422


def test_texts_of_many_lengths_in_one_request_are_answered_in_order(embedding):
    sentences = [" ".join(itertools.islice(itertools.cycle(texts(20, seed=i)), 1 + i % 7)) for i in range(60)]
    found = embedding.ask("/embed", {"inputs": sentences})
    np.testing.assert_allclose(found, [embedding.alone(text) for text in sentences], atol=2e-5)
