"""Every task's route, by requests to a server of a stand-in graph whose answers are known."""

import base64
import itertools
import json
import math
import urllib.request

import numpy as np
import onnxruntime
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from compiler.export.routing import ROUTES
from compiler.families import EmbeddingRecipe
from compiler.families.embedding import Normalize
from tests import served
from tests.cli import texts
from tests.tiny import tiny_tokenizer

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "in", "wash", "##ing", "##ton", "##d", "new", "york", "lives", "ada",
          "lovelace", "and", ",", ".", "'", "s", "met", "who", "where", "?"]  # fmt: skip


def pieces():
    """A tokenizer with sub-words, like BERT's."""
    vocabulary = {piece: i for i, piece in enumerate(PIECES)}
    special = dict(zip(["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"], PIECES, strict=False))
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=special["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=names, **special)


def words():
    """A tokenizer of words, with a mask."""
    tokenizer = tiny_tokenizer("bert")
    tokenizer.add_special_tokens({"mask_token": "[MASK]"})
    return tokenizer


def alone(folder, tokenizer, *text, ids=None):
    """The graph's output for one text or pair alone, without padding."""
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    ids = tokenizer(*text, truncation=True, max_length=64)["input_ids"] if ids is None else ids
    given = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
    return session.run(None, {i.name: given[i.name] for i in session.get_inputs()})[0][0].astype(np.float64)


class Served:
    """A server of a task, its folder and its tokenizer."""

    def __init__(self, address, folder, tokenizer):
        self.address, self.folder, self.tokenizer = address, folder, tokenizer

    def ask(self, path, body):
        return served.ask(f"{self.address}{path}", body)

    def refused(self, path, body):
        status, answer, _ = served.post(f"{self.address}{path}", body)
        return status, answer

    def alone(self, *text, ids=None):
        return alone(self.folder, self.tokenizer, *text, ids=ids)


def server(task, output="logits", size=None, *, labels=(), recipe=None, tokens=False, tables=None, tokenizer=None):
    """A fixture that serves a task for a module's tests."""

    @pytest.fixture(scope="module", name=task)
    def serving(tmp_path_factory):
        folder, made = tmp_path_factory.mktemp(task), tokenizer() if tokenizer else words()
        if tables:
            served.lookup_graph(folder / "model.onnx", **tables())
        else:
            served.context_graph(folder / "model.onnx", output, size or len(made), len(made), tokens=tokens)
        script = served.write_server(folder, task, made, labels=labels, recipe=recipe)
        with served.started(script) as (address, _):
            yield Served(address, folder, made)

    return serving


TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
TAG_OF = {"ada": 1, "lovelace": 2, "new": 3, "york": 4, "wash": 3}


def tags():
    table = np.zeros((len(PIECES), len(TAGS)))
    for i, piece in enumerate(PIECES):
        table[i, TAG_OF.get(piece, 0)] = 5
    table[PIECES.index("##ing")] = [0, 9, 0, 0, 0]  # only a first sub-word's label counts
    return {"logits": table}


def span_ends():
    starts, ends = np.zeros(len(PIECES)), np.zeros(len(PIECES))
    starts[PIECES.index("new")], ends[PIECES.index("york")] = 6, 6
    starts[PIECES.index("who")], ends[PIECES.index("?")] = 20, 20  # in a question: no answer
    starts[PIECES.index("[CLS]")] = ends[PIECES.index("[CLS]")] = 3
    return {"start_logits": starts, "end_logits": ends}


NORMALISED = EmbeddingRecipe(steps=(Normalize(),))
classification = server("classification", size=3, labels=("bad", "fair", "good"))
multi_label = server("multi_label", size=3, labels=("bad", "fair", "good"))
regression = server("regression", size=1)
embedding = server("embedding", "sentence_embedding", 6)
reranking = server("reranking", size=1)
token_classification = server("token_classification", labels=TAGS, tables=tags, tokenizer=pieces)
question_answering = server("question_answering", tables=span_ends, tokenizer=pieces)
masked_lm = server("masked_lm", tokens=True)
causal_lm = server("causal_lm", tokens=True)

SENTENCES = ["a great film", "the river", " ".join(texts(5)), "cold water"]


def log_softmax(logits):
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def test_every_task_has_a_part_and_its_example_is_answered(request):
    for task, route in ROUTES.items():
        running = request.getfixturevalue(task)
        assert running.ask(route.paths[0], route.example.encode()), task


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
    assert (status, "have 6" in answer) == (422, True)


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
    with pytest.raises(openai.UnprocessableEntityError) as refused:
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


def spans(answer):
    return [(span["label"], span["text"]) for span in answer]


def test_entities_have_the_offsets_of_their_characters(token_classification):
    text = "Ada Lovelace, and  Ada\tmet in New York's washington."
    (found,) = token_classification.ask("/tag", {"inputs": [text]})
    assert spans(found) == [("PER", "Ada Lovelace"), ("PER", "Ada"), ("LOC", "New York"), ("LOC", "washington")]
    assert [text[span["start"] : span["end"]] for span in found] == [span["text"] for span in found]
    sure = math.exp(5) / (math.exp(5) + 4)
    np.testing.assert_allclose([span["score"] for span in found], sure, atol=1e-5)


def test_given_words_are_tagged_as_they_are(token_classification):
    given = ["new", "york", "and", "york", "ada", "washington"]
    (found,) = token_classification.ask("/tag", {"inputs": [given]})
    assert spans(found) == [("LOC", "new york"), ("LOC", "york"), ("PER", "ada"), ("LOC", "washington")]
    joined = " ".join(given)
    assert [joined[span["start"] : span["end"]] for span in found] == [span["text"] for span in found]


def test_a_text_without_entities_or_words(token_classification):
    assert token_classification.ask("/tag", {"inputs": ["lives in", "", "  "]}) == [[], [], []]


@pytest.mark.parametrize("shift", range(4))
def test_every_entity_of_a_long_text_is_found_once(token_classification, shift):
    text = "met " * shift + "washingtond ada lovelace, " * 60
    (found,) = token_classification.ask("/tag", {"inputs": [text]})
    assert spans(found) == [("LOC", "washingtond"), ("PER", "ada lovelace")] * 60
    starts = [span["start"] for span in found]
    assert starts == sorted(set(starts))
    assert all(text[span["start"] : span["end"]] == span["text"] for span in found)


def load_module(tmp_path, task, labels):
    served.lookup_graph(tmp_path / "model.onnx", **tags())
    return served.imported(served.write_server(tmp_path, task, pieces(), labels=labels))


@pytest.mark.parametrize(
    ("marks", "wanted"),
    [
        ("O I-A I-A", ["A:1-2"]),
        ("B-A B-A I-A", ["A:0-0", "A:1-2"]),
        ("B-A I-B I-B", ["A:0-0", "B:1-2"]),
        ("S-A B-A E-A I-A", ["A:0-0", "A:1-2", "A:3-3"]),
        ("B-A I-A E-A E-A", ["A:0-2", "A:3-3"]),
        ("U-A B-A L-A", ["A:0-0", "A:1-2"]),
        ("A A O A B", ["A:0-1", "A:3-3", "B:4-4"]),
        ("O O", []),
    ],
)
def test_bio_and_bioes_are_read_as_conlleval_reads_them(tmp_path, marks, wanted):
    labels = sorted({*marks.split(), "O"})
    module = load_module(tmp_path, "token_classification", labels)
    row = dict(zip(labels, np.eye(len(labels)), strict=True))
    words = [(i, i + 1, row[mark]) for i, mark in enumerate(marks.split())]
    found = module.spans_of("x" * len(words), words)
    assert [f"{s['label']}:{s['start']}-{s['end'] - 1}" for s in found] == wanted


def answer(running, context, **extra):
    return running.ask("/answer", {"question": "who?", "context": context, **extra})


def test_the_answer_is_a_part_of_the_context(question_answering):
    context = "Ada lives in  New  York, and met."
    found = answer(question_answering, context)
    assert (found["text"], found["start"], found["end"]) == ("New  York", 14, 23)


def brute_force(running, context, window, *, unanswerable=False):
    """Score of every span of a context in one window, by two loops."""
    ids = running.tokenizer("who?", context)["input_ids"]
    tables = span_ends()
    start, end = (tables[name][ids] for name in ("start_logits", "end_logits"))
    first = ids.index(3) + 1
    scores = [start[i] + end[j] for i in range(first, len(ids) - 1) for j in range(i, min(i + window, len(ids) - 1))]
    return scores + [start[0] + end[0]] * unanswerable


@pytest.mark.parametrize("context", ["ada lives in new york and met", "ada met", "lovelace " * 40 + "new york"])
@pytest.mark.parametrize("unanswerable", [True, False])
def test_the_score_is_a_share_of_all_spans(question_answering, context, unanswerable):
    scores = np.array(brute_force(question_answering, context, 30, unanswerable=unanswerable))
    found = answer(question_answering, context, unanswerable=unanswerable)
    assert found["score"] == pytest.approx(np.exp(scores.max()) / np.exp(scores).sum(), rel=1e-4)
    if "york" in context:
        assert found["text"] == "new york"
    elif unanswerable:
        assert (found["text"], found["start"], found["end"]) == (None, None, None)
    else:
        assert found["text"] in context


@pytest.mark.parametrize("before", [0, 10, 38, 39, 40, 41, 57, 58, 100, 500])
def test_an_answer_is_found_wherever_it_stands_in_a_long_context(question_answering, before):
    context = "lovelace " * before + "New York" + " lovelace" * 200
    found = answer(question_answering, context)
    assert (found["text"], found["start"]) == ("New York", 9 * before)


def test_questions_that_cannot_be_asked(question_answering):
    assert question_answering.refused("/answer", {"question": "ada " * 60, "context": "ada"})[0] == 422
    assert question_answering.refused("/answer", {"question": "who?", "context": ""})[0] == 422
    assert question_answering.refused("/answer", {"question": "who?", "context": "ada " * 8000})[0] in {200, 413}


def test_log_likelihood_of_a_text(causal_lm):
    found = causal_lm.ask("/score", {"inputs": ["a great film", "the river", "the " * 60]})
    for text, each in zip(["a great film", "the river", "the " * 60], found, strict=True):
        ids = causal_lm.tokenizer(text)["input_ids"]
        each_token = log_softmax(causal_lm.alone(text))[np.arange(len(ids) - 1), ids[1:]]
        assert each["log_likelihood"] == pytest.approx(each_token.sum(), rel=1e-5)
        assert each["tokens"] == len(ids) - 1
        assert each["perplexity"] == pytest.approx(math.exp(-each_token.mean()), rel=1e-5)


@pytest.mark.parametrize("task", ["causal_lm", "masked_lm"])
def test_a_text_that_would_be_cut_has_no_likelihood(task, request):
    assert request.getfixturevalue(task).refused("/score", {"inputs": ["the " * 70]})[0] == 413


def test_pseudo_likelihood_masks_each_token(masked_lm):
    text = "a great film"
    ids = masked_lm.tokenizer(text)["input_ids"]
    mask, total = masked_lm.tokenizer.mask_token_id, 0.0
    for i in range(1, len(ids) - 1):
        masked = [mask if i == j else token for j, token in enumerate(ids)]
        total += log_softmax(masked_lm.alone(ids=masked))[i, ids[i]]
    (found,) = masked_lm.ask("/score", {"inputs": [text]})
    assert found["pseudo_log_likelihood"] == pytest.approx(total, rel=1e-5)
    assert found["tokens"] == 3
    assert found["pseudo_perplexity"] == pytest.approx(math.exp(-total / 3), rel=1e-5)


def test_the_likeliest_tokens_at_masks(masked_lm):
    text = "a [MASK] film of [MASK]"
    ids = masked_lm.tokenizer(text)["input_ids"]
    scores = log_softmax(masked_lm.alone(text))
    found, plain = masked_lm.ask("/score", {"inputs": [text, "the river"], "top_k": 3})
    assert plain["tokens"] == 2
    places = [i for i, token in enumerate(ids) if token == masked_lm.tokenizer.mask_token_id]
    assert len(found["masks"]) == len(places) == 2
    for place, best in zip(places, found["masks"], strict=True):
        order = np.argsort(-scores[place])[:3]
        assert [each["id"] for each in best] == order.tolist()
        np.testing.assert_allclose([each["score"] for each in best], np.exp(scores[place][order]), rtol=1e-4)


def test_a_text_of_too_many_tokens_to_mask_is_refused(masked_lm):
    assert masked_lm.refused("/score", {"inputs": ["the " * 60] * 40})[0] == 413
    assert masked_lm.refused("/score", {"inputs": ["the"], "top_k": 0})[0] == 422


def test_texts_of_many_lengths_in_one_request_are_answered_in_order(embedding):
    sentences = [" ".join(itertools.islice(itertools.cycle(texts(20, seed=i)), 1 + i % 7)) for i in range(60)]
    found = embedding.ask("/embed", {"inputs": sentences})
    np.testing.assert_allclose(found, [embedding.alone(text) for text in sentences], atol=2e-5)
