"""Routes that read an output for each token, by requests to a server of a stand-in graph whose answers are known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from compiler.tasks.question_answering import _windows, longest_question
from compiler.tasks.token_classification import first_tokens
from tests import served
from tests.served_tasks import log_softmax, server, words

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


token_classification = server("token_classification", labels=TAGS, tables=tags, tokenizer=pieces)
question_answering = server("question_answering", tables=span_ends, tokenizer=pieces)
masked_lm = server("masked_lm", tokens=True)
causal_lm = server("causal_lm", tokens=True)


@pytest.mark.parametrize("task", ["token_classification", "question_answering", "masked_lm", "causal_lm"])
def test_the_example_of_the_page_is_answered(task, request):
    assert request.getfixturevalue(task).example()


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


def trained(kind):
    """A tokenizer whose words hold their space, as RoBERTa's or XLM-RoBERTa's, trained on what is tagged."""
    if kind == "bytes":
        made, trainer = Tokenizer(models.BPE()), trainers.BpeTrainer(vocab_size=300, special_tokens=["<pad>"])
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        made.post_processor = processors.ByteLevel(trim_offsets=False)
    else:
        made = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=["<pad>", "<unk>"], unk_token="<unk>")  # noqa: S106
        made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.train_from_iterator([TAGGED] * 20, trainer)
    return made


TAGGED = "Zoë lives in  New York, they said: in \u0939\u093f\u0928\u094d\u0926\u0940 on-line."


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
def test_words_are_those_of_the_text_whatever_the_tokenizer(tmp_path, kind):
    module = load_module(tmp_path, "token_classification", TAGS)
    words = module.words_of(trained(kind).encode(TAGGED), TAGGED, None)
    hindi = "\u0939\u093f\u0928\u094d\u0926\u0940"
    wanted = ["Zoë", "lives", "in", "New", "York", ",", "they", "said", ":", "in", hindi, "on", "-", "line", "."]
    assert [TAGGED[start:end] for _, start, end in words] == wanted


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
def test_given_words_are_read_at_the_places_that_training_labels(tmp_path, kind):
    module = load_module(tmp_path, "token_classification", TAGS)
    module.tokenizer = trained(kind)
    given = ["Zoë", "lives", "in", "New", "York", ",", "they", "on-line."]
    joined, ((encoding, found),) = module.windows_of(given)
    assert [joined[start:end] for _, start, end in found] == given
    assert [place for place, _, _ in found] == first_tokens(encoding, joined).tolist()


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


@pytest.mark.parametrize("tokens", [64, 512])
def test_windows_are_those_that_the_metric_is_taken_of(tmp_path, tokens):
    served.lookup_graph(tmp_path / "model.onnx", **span_ends())
    tokenizer = pieces()
    module = served.imported(served.write_server(tmp_path, "question_answering", tokenizer, max_tokens=tokens))
    context = "ada met lovelace in new york , and " * 120
    reader = SimpleNamespace(tokenizer=tokenizer, prompt="")
    (wanted,) = _windows(reader, [("who?", context)], tokens)
    found = [encoding for encoding, _ in module.windows_of("who?", context)]
    assert [each.ids for each in found] == [each.ids for each in wanted]
    assert longest_question(reader, tokens) == module.QUESTION


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


def test_a_graph_without_the_task_s_outputs_is_not_served(tmp_path):
    served.context_graph(tmp_path / "model.onnx", "scores", 1, 80)
    with pytest.raises(SystemExit, match="no output named end_logits, start_logits"):
        served.imported(served.write_server(tmp_path, "question_answering", words()))


def test_a_text_of_too_many_tokens_to_mask_is_refused(masked_lm):
    assert masked_lm.refused("/score", {"inputs": ["the " * 60] * 40})[0] == 413
    assert masked_lm.refused("/score", {"inputs": ["the"], "top_k": 0})[0] == 422
