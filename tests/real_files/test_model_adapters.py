"""Folders that PEFT writes: merged where its base is here, else named with what to do."""

import importlib.util
import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from compiler.families.checkpoint import resolve
from compiler.families.loading import adapters
from targets.errors import InputError
from tests.model_folder import TEXTS, answers, copied, load, set_json, tiny, without

RANK, ALPHA = 2, 8


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture
def adapter(base, tmp_path):
    """What PEFT writes for a classifier of three classes: low-rank matrices for the values of layer 0, and the head."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    settings = {
        "base_model_name_or_path": str(base), "peft_type": "LORA", "task_type": "SEQ_CLS", "r": RANK, "lora_alpha": ALPHA,
        "target_modules": "bert.encoder.layer.0.attention.self.value", "modules_to_save": ["classifier", "score"],
        "inference_mode": True,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    torch.manual_seed(0)
    root = "base_model.model."
    save_file(
        {
            f"{root}bert.encoder.layer.0.attention.self.value.lora_A.weight": torch.randn(RANK, 32),
            f"{root}bert.encoder.layer.0.attention.self.value.lora_B.weight": torch.randn(32, RANK),
            f"{root}classifier.weight": torch.randn(3, 32),
            f"{root}classifier.bias": torch.randn(3),
        },
        folder / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    return folder


def refusal(folder):
    with pytest.raises(InputError) as caught:
        resolve(str(folder))
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def test_without_peft_the_line_that_installs_it_is_given(adapter, monkeypatch):
    monkeypatch.setattr(adapters.importlib.util, "find_spec", lambda _: None)
    assert "pip install peft" in refusal(adapter)


def test_a_base_on_the_hub_is_not_fetched(adapter):
    set_json(adapter / "adapter_config.json", base_model_name_or_path="someone/bert")
    assert "merge_and_unload" in refusal(adapter)


def test_a_whole_model_beside_an_adapter(adapter, base):
    shutil.copy(base / "model.safetensors", adapter)
    assert "which is meant?" in refusal(adapter)


def test_a_pickled_adapter(adapter):
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    assert "pickled weights are not read" in refusal(adapter)


@pytest.mark.parametrize(
    "changes",
    [
        {"task_type": "CAUSAL_LM"},
        {"auto_mapping": {"parent_library": "os"}},
        {"base_model_name_or_path": None},
        {"peft_type": 3},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_adapter_that_is_not_supported(adapter, changes):
    set_json(adapter / "adapter_config.json", **changes)
    assert next(iter(changes)) in refusal(adapter)


needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")


@needs_peft
def test_an_adapter_is_merged_as_peft_computes_it(adapter, base):
    import peft
    import transformers

    found = load(resolve(str(adapter)), "classification")
    assert found.head_trained
    assert (found.name, found.config.num_labels) == ("adapter", 3)
    assert "the adapter adapter was merged into base with peft" in found.notes
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    model = peft.PeftModel.from_pretrained(model, str(adapter)).eval()
    with torch.inference_mode():
        expected = torch.cat([model(**found.tokenizer(text, return_tensors="pt")).logits.flatten() for text in TEXTS])
    assert torch.allclose(answers(found), expected, atol=1e-5)


@needs_peft
def test_a_pooler_that_was_random_while_the_adapter_was_trained(adapter, base, tmp_path):
    folder = copied(base, tmp_path / "unpooled")
    without(folder, "pooler")
    set_json(adapter / "adapter_config.json", base_model_name_or_path=str(folder))
    assert "bert.pooler.dense.weight is neither in the adapter nor in its base unpooled" in refusal(adapter)
