"""Reranking: metrics against their definitions, pairs and their queries, what is refused, and losses."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, ndcg_score

from compiler.data import Split
from compiler.tasks import read_data, task_named
from compiler.tasks.rank_metrics import JUDGED
from compiler.tasks.reranking import MAP, MRR, NDCG, ranking_loss
from targets.errors import InputError

TASK = task_named("reranking")
ONE_OUTPUT = ("regression", "reranking")


def reference(grades, queries):
    made = np.zeros(len(grades), dtype=JUDGED)
    made["grade"], made["query"] = grades, queries
    return made


def drawn(seed, *, decimals, queries=7, candidates=15):
    """Scores and a reference of interleaved queries, one of them without a relevant candidate; ties where few decimals are left."""
    rng = np.random.default_rng(seed)
    query = rng.permutation(np.repeat(np.arange(queries), candidates))
    grade = rng.integers(0, 4, len(query)) * (rng.random(len(query)) < 0.4) * (query > 0)
    scores = np.round(rng.normal(size=len(query)) + 0.3 * grade, decimals)
    return scores[:, None].astype(np.float32), reference(grade.astype(float), query)


def rows_of(scores, known):
    judged = [known["query"] == query for query in np.unique(known["query"])]
    return [(scores[rows, 0], known["grade"][rows]) for rows in judged if (known["grade"][rows] > 0).any()]


@pytest.mark.parametrize("decimals", [6, 1, 0])
def test_ndcg_is_that_of_scikit_learn_with_ties(decimals):
    scores, known = drawn(0, decimals=decimals)
    theirs = [ndcg_score(grades[None], own[None], k=10) for own, grades in rows_of(scores, known)]
    assert len(theirs) == 6
    np.testing.assert_allclose(NDCG(scores, known), theirs, rtol=1e-12)
    assert TASK.metrics[0].score(scores, known) == pytest.approx(np.mean(theirs))


def test_average_precision_is_that_of_scikit_learn():
    scores, known = drawn(1, decimals=6)
    theirs = [average_precision_score(grades > 0, own) for own, grades in rows_of(scores, known)]
    np.testing.assert_allclose(MAP(scores, known), theirs, rtol=1e-12)


def by_hand(order):
    """Reciprocal rank and average precision of relevance (0 or 1) in this order."""
    ranks = [rank for rank, relevant in enumerate(order, 1) if relevant]
    return 1 / ranks[0] if ranks[0] <= 10 else 0.0, np.mean([(i + 1) / rank for i, rank in enumerate(ranks)])


@pytest.mark.parametrize("scores", [[0, 0, 0, 0, 0], [2, 1, 1, 1, 0], [1, 1, 0, 0, 0], [5, 4, 3, 2, 1]])
@pytest.mark.parametrize("grades", [[0, 1, 0, 2, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 3]])
def test_candidates_of_one_score_are_in_the_mean_of_all_their_orders(scores, grades):
    orders = [
        [int(grades[i] > 0) for i in order]
        for order in itertools.permutations(range(5))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    expected = np.mean([by_hand(order) for order in orders], axis=0)
    known = reference(grades, [7] * 5)
    found = [values(np.array(scores, dtype=float)[:, None], known)[0] for values in (MRR, MAP)]
    assert found == pytest.approx(expected.tolist())


def test_a_relevant_candidate_beyond_the_tenth_counts_for_map_alone():
    scores, known = -np.arange(12.0)[:, None], reference([0.0] * 11 + [1.0], [0] * 12)
    assert [values(scores, known)[0] for values in (NDCG, MRR, MAP)] == pytest.approx([0, 0, 1 / 12])


def test_a_thousand_equal_scores_are_finite():
    known = reference(np.arange(3000) % 2, [0] * 3000)
    assert MRR(np.zeros((3000, 1)), known)[0] == pytest.approx(sum(0.5**i / i for i in range(1, 11)), rel=0.01)


# --- data


def written(path, rows, header="query_id,query,passage,label"):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return str(path)


ROWS = [divmod(i, 4) for i in range(80)]
"""The number of the query and of the candidate, row by row."""

RIGHT = [int(c == q % 4) for q, c in ROWS]


def rows(labels=RIGHT):
    numbered = zip(ROWS, labels, strict=True)
    return [(f"Q{q}", f"where is the city {q}", f"the city {q} is by river {c}", label) for (q, c), label in numbered]


def without_ids(found):
    return [row[1:] for row in found]


def test_pairs_with_query_ids_and_grades(tmp_path):
    data = read_data(written(tmp_path / "d.csv", rows([(q + c) % 3 for q, c in ROWS])))
    assert (data.task, data.text_columns, data.label_column) == ("reranking", ("query", "passage"), "label")
    assert data.unused_columns == ()
    assert "d.csv: 20 queries of 4 candidates" in data.notes
    splits = [data.train, data.validation, data.test]
    assert [len(split) for split in splits] == [56, 12, 12]
    ids = [{texts[0] for texts in split.texts} for split in splits]
    assert sum(map(len, ids)) == len(set.union(*ids)) == 20
    assert all(len(np.unique(split.groups)) == len(own) for split, own in zip(splits, ids, strict=True))
    assert set(data.train.labels) == {0.0, 1.0, 2.0}
    assert TASK.examples(data.train).labels.max() == 1.0


def test_queries_without_a_relevant_candidate_are_counted_and_left_out(tmp_path):
    data = read_data(written(tmp_path / "d.csv", rows([int(c == q % 4 and q % 5 > 0) for q, c in ROWS])))
    assert "d.csv: 4 queries have no relevant candidate and are in no metric" in data.notes
    known = TASK.reference(data.train)
    scores = np.zeros((len(data.train), 1))
    assert len(TASK.metrics[0].values(scores, known)) < len(np.unique(data.train.groups))


@pytest.mark.parametrize(
    ("declared", "task"), [((), "reranking"), (ONE_OUTPUT, "reranking"), (("classification",), "classification")]
)
def test_a_head_says_what_pairs_under_ids_are_for(tmp_path, declared, task):
    assert read_data(written(tmp_path / "d.csv", rows()), declared=declared).task == task


def test_without_labels_a_head_of_one_output_ranks_by_ids_or_texts(tmp_path):
    pairs = [row[:2] for row in without_ids(rows())]
    source = written(tmp_path / "d.csv", pairs, "query,passage")
    data = read_data(source, declared=ONE_OUTPUT)
    assert (data.task, data.train.labels) == ("reranking", None)
    assert len(np.unique(data.train.groups)) == 14
    assert read_data(source).task == "embedding"
    under_ids = written(tmp_path / "i.csv", [row[:3] for row in rows()], "qid,query,passage")
    assert read_data(under_ids, declared=ONE_OUTPUT).task == "reranking"


def test_equal_queries_are_grouped_without_ids(tmp_path):
    source = written(tmp_path / "d.csv", without_ids(rows()), "query,passage,label")
    assert read_data(source, declared=ONE_OUTPUT).task == "reranking"
    assert len(np.unique(read_data(source, task="reranking").train.groups)) == 14
    assert read_data(source, declared=("classification",)).task == "classification"


@pytest.mark.parametrize(
    ("declared", "header", "labels", "other"),
    [
        ((), "query,passage,label", RIGHT, "classification"),
        (ONE_OUTPUT, "query,passage,label", [q / 7 + c / 9 for q, c in ROWS], "regression"),
        (ONE_OUTPUT, "sentence1,sentence2,label", RIGHT, "regression"),
    ],
)
def test_two_tasks_that_fit_are_both_said(tmp_path, declared, header, labels, other):
    source = written(tmp_path / "d.csv", without_ids(rows(labels)), header)
    with pytest.raises(InputError, match=rf"fits reranking \(because .* repeats texts\) and {other}") as caught:
        read_data(source, declared=declared)
    assert str(caught.value).endswith("Say which with --task.")
    assert read_data(source, declared=declared, task=other).task == other


def test_words_are_classes_of_pairs(tmp_path):
    found = rows(["neutral" if c else "contradiction" for _, c in ROWS])
    assert read_data(written(tmp_path / "d.csv", found)).task == "classification"


def refused(source, **options):
    with pytest.raises(InputError) as caught:
        read_data(source, task="reranking", **options)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def test_bad_input_is_refused_with_lines(tmp_path):
    path = tmp_path / "d.csv"
    below = [-1 if i == 4 else c % 2 for i, (_, c) in enumerate(ROWS)]
    assert "d.csv line 6: the label (label) is '-1'" in refused(written(path, rows(below)))
    assert "All grades (label) are 1" in refused(written(path, rows([1] * 80)))
    assert "is 'yes', no grade" in refused(written(path, rows(["yes", "no"] * 40)))
    blank = [("" if i == 2 else row[0], *row[1:]) for i, row in enumerate(rows())]
    assert "d.csv line 4: the query (query_id) is empty" in refused(written(path, blank))
    mixed = [(f"Q{i % 10}", *row[1:]) for i, row in enumerate(rows())]
    assert "stands for two queries" in refused(written(path, mixed))
    assert "one candidate for each" in refused(written(path, rows([0, 0, 0, 1, 1, 1, 1, 0] * 10)[::4]))
    single = [(row[1], row[3]) for row in rows()]
    assert "needs pairs" in refused(written(path, single, "text,label"))


def test_a_query_that_is_spelt_in_two_ways_stays_one(tmp_path):
    found = rows()
    found[1] = (found[1][0], found[1][1] + " .", *found[1][2:])
    data = read_data(written(tmp_path / "d.csv", found))
    assert sum(len(np.unique(split.groups)) for split in (data.train, data.validation, data.test)) == 20


def test_numbers_of_classes_are_no_grades(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    names = {"info": {"features": {"label": {"names": ["relevant", "other"], "_type": "ClassLabel"}}}}
    table = pa.Table.from_pylist([dict(zip(("query_id", "query", "passage", "label"), r, strict=True)) for r in rows()])
    import json

    path = tmp_path / "d.parquet"
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(names)}), path)
    assert "are classes: 'relevant', 'other'" in refused(str(path))
    assert read_data(str(path)).task == "classification"


def test_nothing_relevant_to_judge_by_is_refused():
    split = Split(texts=(("a", "b"),) * 4, labels=np.zeros(4), groups=np.array([0, 0, 1, 1]))
    with pytest.raises(InputError, match="None of 2 queries"):
        TASK.reference(split)


# --- without labels, doubt, loss


def test_without_labels_the_dense_order_is_the_reference():
    split = Split(texts=(("a", "b"),) * 6, labels=None, groups=np.array([0, 1, 0, 1, 0, 1]))
    dense = np.array([[3.0], [1.0], [1.0], [2.0], [2.0], [2.0]], dtype=np.float32)
    known = TASK.dense_reference(dense, split)
    np.testing.assert_allclose(known["grade"], [1, 1 / 3, 1 / 3, 1 / 1.5, 1 / 2, 1 / 1.5])
    ndcg, spearman = TASK.metrics_of(labelled=False)
    assert (ndcg.name, spearman.name) == ("ndcg_at_10_with_dense", "spearman_with_dense")
    assert [ndcg.score(dense, known), spearman.score(dense, known)] == pytest.approx([1, 1])
    assert ndcg.score(-dense, known) < 0.85
    assert len(ndcg.values(dense, known)) == 2
    assert TASK.metric("ndcg_at_10", labelled=False).name == ndcg.name
    with pytest.raises(InputError, match="does not fit"):
        TASK.metric("mrr_at_10", labelled=False)


def test_doubt_is_about_a_random_order():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 8)
    labels = (np.arange(480) % 8 == 0).astype(float)
    split = Split(texts=(("a", "b"),) * 480, labels=labels, groups=groups)
    good = (labels + 0.5 * rng.normal(size=480))[:, None].astype(np.float32)
    metric = TASK.metric()
    assert TASK.doubt(metric, good, split, ()) is None
    assert "falls where the grades rise" in TASK.doubt(metric, -good, split, ())
    assert "is at chance" in TASK.doubt(metric, np.zeros_like(good), split, ())
    assert TASK.doubt(metric, np.zeros_like(good), Split(texts=split.texts, labels=None, groups=groups), ())


def test_the_loss_is_least_where_scores_are_the_grades_odds():
    grades = torch.tensor([0.2, 0.8])
    odds = torch.logit(grades)[:, None]
    teacher = torch.tensor([[1.0], [3.0]])
    assert ranking_loss(odds, grades, None) < ranking_loss(odds + 0.1, grades, None)
    assert ranking_loss(teacher, None, teacher) == 0
    assert ranking_loss(teacher + 2, None, teacher) == 4
    with pytest.raises(ValueError, match="neither"):
        ranking_loss(odds, None, None)
