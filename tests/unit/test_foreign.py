"""Artefacts held against transformers and sentence-transformers, and what is never loaded with them."""

import copy
import json

import pytest
import torch

from compiler.costing import dimensions_of
from compiler.export.checkpoint import save_checkpoint
from compiler.export.foreign import held_against_libraries
from compiler.export.rebuild import load_sliced
from compiler.families import load_checkpoint
from compiler.slicing import slice_parameters
from compiler.spaces import Ordering, Subnet
from compiler.tasks import encode
from profilers import LayerSizes
from targets.errors import VerificationError
from tests.recipe_forms import prompt_left_out
from tests.recipes import TEXTS, edit, load
from tests.tiny import save_tiny


def saved(folder, checkpoint, *, cut=False):
    """The folder of a checkpoint written whole, or with half of everything."""
    shape = [
        LayerSizes(h // 2, u // 2) if cut else LayerSizes(h, u) for h, u in dimensions_of(checkpoint.architecture).dense
    ]
    subnet = Subnet.first(tuple(shape), Ordering.by_index(checkpoint.architecture.whole.shape))
    dense = {name: p.detach() for name, p in checkpoint.model.backbone.named_parameters()}
    save_checkpoint(folder, checkpoint, subnet, slice_parameters(dense, checkpoint.architecture, subnet))
    return folder


def held(folder):
    """An artefact, as our own code loads it, against the libraries."""
    return held_against_libraries(folder, load_sliced(folder))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoder")
    prompt_left_out(root / "model")
    return saved(root / "out", load(root / "model"), cut=True)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    root = tmp_path_factory.mktemp("classifier")
    save_tiny(root / "model", "roberta", labels=3)
    return saved(root / "out", load_checkpoint(str(root / "model"), task="classification"), cut=True)


@pytest.mark.parametrize(("kind", "library"), [("encoder", "sentence-transformers"), ("classifier", "transformers")])
def test_an_artefact_is_what_other_libraries_make_of_it(kind, library, request):
    said = held(request.getfixturevalue(kind))
    assert said.startswith(f"largest difference from {library} ")
    assert float(said.rsplit(" ", 1)[1]) < 1e-5


def test_another_answer_is_an_error(encoder, monkeypatch):
    monkeypatch.setattr("compiler.export.foreign._ours", lambda _: torch.zeros(4, 16).numpy())
    with pytest.raises(VerificationError, match="sentence-transformers differs by"):
        held(encoder)


def test_no_library_is_no_failure(encoder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    assert held(encoder).startswith("not compared with other libraries: ")


def test_code_of_others_is_never_run(classifier, tmp_path):
    import shutil

    folder = tmp_path / "out"
    shutil.copytree(classifier, folder)
    trap = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
    code = (folder / "modeling_subnet.py").read_text(encoding="utf-8")
    (folder / "modeling_subnet.py").write_text(trap + code, encoding="utf-8")
    with pytest.raises(VerificationError, match="is not the file that was written"):
        held(folder)
    (folder / "modeling_subnet.py").write_text(code, encoding="utf-8")
    (folder / "theirs.py").write_text(trap, encoding="utf-8")
    for name, key in (("config.json", "AutoConfig"), ("tokenizer_config.json", "AutoTokenizer")):
        kept = (folder / name).read_bytes()
        known = json.loads(kept).get("auto_map") or {}
        edit(folder / name, auto_map={**known, key: "theirs.Own"})
        with pytest.raises(VerificationError, match=f"{name} names other code"):
            held(folder)
        (folder / name).write_bytes(kept)
    assert not (tmp_path / "ran").exists()
    assert held(folder).startswith("largest difference")


def test_nothing_that_is_loaded_is_changed_by_being_used(tmp_path):
    prompt_left_out(tmp_path / "model")
    checkpoint = load(tmp_path / "model")

    def state():
        model, tokenizer = checkpoint.model, checkpoint.tokenizer
        weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        about = (checkpoint.config.to_json_string(), tokenizer.backend_tokenizer.to_str(), str(tokenizer.init_kwargs))
        sides = (tokenizer.truncation_side, tokenizer.padding_side, tokenizer.model_max_length)
        return weights, copy.deepcopy((*about, *sides, str(model), model.training, checkpoint.model.recipe))

    before = state()
    batches = encode(checkpoint, [(text,) for text in TEXTS], max_tokens=7)
    batches.outputs(lambda inputs: checkpoint.model(**inputs)[-1])
    held(saved(tmp_path / "out", checkpoint, cut=True))
    after = state()
    assert before[1] == after[1]
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
