"""Jobs as data: what travels to a worker comes back as it was, and what a worker must share is checked."""

import json
import socket

import numpy as np
import pytest

from compiler.evaluation import Quality
from compiler.pipeline.executors import check_store
from compiler.pipeline.inputs import fetched, published
from compiler.pipeline.jobs import Correct, Evaluate, Score
from compiler.pipeline.options import Budgets, Options, options_from_json, options_json
from compiler.pipeline.worker import check_versions, perform, versions
from compiler.spaces import Form, SubBlock, Subnet
from compiler.store import DiskStore
from compiler.store.shared import SharedStore
from profilers import Series
from profilers.interleave import Block
from targets.errors import InputError

SUBNET = Subnet.of([[0, 2], []], [[1], [0, 3]], residual=[0, 1])
FORM = Form("int8", (SubBlock(1, "ffn"),))
QUALITY = Quality(metric=0.5, others={"f1": 0.25}, values=np.array([0.0, 1.0]))


@pytest.mark.parametrize(
    "job",
    [
        Evaluate(subnet=SUBNET, form=FORM, share=0.5, rival=QUALITY),
        Evaluate(subnet=SUBNET, form=Form("fp32"), share=1.0, rival=None),
        Correct(subnet=SUBNET, share=1.0),
        Score(subnet=SUBNET, form=FORM, share=1.0),
    ],
)
def test_a_job_comes_back_from_json_as_it_was(job):
    body = json.loads(json.dumps(job.job(3).body))
    again = type(job).from_json(body)
    assert again.to_json() == job.to_json()
    assert again.subnet == SUBNET
    assert job.job(3).threads == 3


def test_the_rival_of_a_candidate_keeps_its_values():
    again = Evaluate.from_json(Evaluate(subnet=SUBNET, form=FORM, share=1.0, rival=QUALITY).to_json())
    assert again.rival == QUALITY
    assert again.rival.values.tolist() == [0.0, 1.0]


def test_options_come_back_from_json_as_they_were(tmp_path):
    options = Options(
        model="m", data="d", out=tmp_path, precisions=("fp32", "int8"), budgets=Budgets(max_drop=0.01), embedding_dim=(8, 4),
        table=tmp_path / "table.json", objectives=("latency", "params"),
    )  # fmt: skip
    assert options_from_json(json.loads(json.dumps(options_json(options)))) == options


def test_a_series_comes_back_from_json_as_it_was():
    block = Block(reference_s=(0.1, 0.2, 0.3), turns_s=((0.01, 0.02), (0.03,)))
    series = Series(name="n1", blocks=(block, block), reference_s=0.2, warmup=2)
    assert Series.from_json(json.loads(json.dumps(series.to_json()))) == series


def test_other_versions_are_refused_naming_both():
    assert versions()["torch"]
    with pytest.raises(InputError, match=r"torch 1\.0 and "):
        check_versions({**versions(), "torch": "1.0"})
    check_versions(versions())


def test_a_worker_answers_an_error_of_the_user_as_one(tmp_path):
    description = json.dumps({"versions": {"torch": "1.0"}, "options": [], "store": str(tmp_path), "inputs": {}})
    job = json.dumps({"kind": "evaluate", "body": {}, "threads": 1, "timeout_s": 60})
    answer = json.loads(perform(description, job))
    assert answer["error"] == "InputError"
    assert "other versions" in answer["message"]


def test_a_folder_is_no_store_for_other_machines(tmp_path):
    check_store(DiskStore(tmp_path / "one"), {socket.gethostname()})
    with pytest.raises(InputError, match="the cluster has other machines: elsewhere"):
        check_store(DiskStore(tmp_path / "one"), {socket.gethostname(), "elsewhere"})


def test_inputs_travel_through_a_shared_store_and_not_through_a_folder(tmp_path):
    model = tmp_path / "model"
    (model / "sub").mkdir(parents=True)
    (model / "config.json").write_text("{}", encoding="utf-8")
    (model / "sub" / "a").write_bytes(bytes(range(256)))
    (tmp_path / "data.csv").write_text("text\nx\n", encoding="utf-8")
    options = Options(model=str(model), data=str(tmp_path / "data.csv"))
    assert published(options, DiskStore(tmp_path / "own")) == {}
    here, there = (SharedStore("memory://inputs/store", DiskStore(tmp_path / front)) for front in ("f1", "f2"))
    keys = json.loads(json.dumps(published(options, here)))
    assert set(keys) == {"model", "data"}
    found = fetched(options, keys, there)
    assert (tmp_path / "f2").resolve() in (tmp_path / found.model).resolve().parents
    for name in ("config.json", "sub/a"):
        assert (model / name).read_bytes() == (tmp_path / found.model / name).read_bytes()
    assert fetched(options, keys, there) == found
