"""Forms of sentence-transformers folders, old and new: each function writes one."""

import json

from tests.recipes import HIDDEN, dense, edit, modules, pooling, save_encoder, weights, write

NEW = "sentence_transformers.sentence_transformer.modules"
BASE = "sentence_transformers.base.modules"


def plain(folder):
    save_encoder(folder)


def two(folder, model_type="bert", **settings):
    save_encoder(folder, model_type)
    modules(folder, "Transformer", "Pooling")
    pooling(folder, **settings)


def flags(**on):
    names = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    return {f"pooling_mode_{name}": name in on for name in names}


def cls_flag(folder):
    two(folder, **flags(cls_token=1))


def no_flag(folder):
    two(folder, **flags())


def three_flags(folder):
    two(folder, **flags(lasttoken=1, max_tokens=1, cls_token=1))


def mode_before_flags(folder):
    two(folder, pooling_mode="weightedmean", **flags(cls_token=1))


def modes_in_order(folder):
    two(folder, pooling_mode=["mean", "cls"])


def list_of_one(folder):
    two(folder, pooling_mode=["mean_sqrt_len_tokens"])


def last_token_of_roberta(folder):
    two(folder, "roberta", **flags(lasttoken=1))


def pooling_elsewhere(folder):
    save_encoder(folder)
    modules(folder, "Transformer", "Pooling")
    (folder / "1_Pooling").rmdir()
    edit_path(folder, 1, "pool/of/it")
    pooling(folder, "pool/of/it", pooling_mode="cls")


def edit_path(folder, number, path):
    listed = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    listed[number]["path"] = path
    write(folder / "modules.json", listed)


def new_names(folder):
    save_encoder(folder)
    write(
        folder / "modules.json",
        [
            {"idx": 0, "name": "0", "path": "", "type": f"{BASE}.transformer.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{NEW}.pooling.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{BASE}.normalize.Normalize", "kwargs": []},
        ],
    )
    write(folder / "1_Pooling" / "config.json", {"embedding_dimension": HIDDEN, "pooling_mode": "mean"})
    write(
        folder / "2_Normalize" / "config.json", {"module_input_name": "sentence_embedding", "module_output_name": None}
    )
    text = {"method": "forward", "method_output_name": "last_hidden_state"}
    settings = {"transformer_task": "feature-extraction", "modality_config": {"text": text}}
    write(folder / "sentence_bert_config.json", {**settings, "module_output_name": "token_embeddings"})


def sub_folder(folder):
    folder.mkdir()
    save_encoder(folder / "0_Transformer")
    modules(folder, "Transformer", "Pooling", first="0_Transformer")
    pooling(folder, **flags(cls_token=1))
    write(folder / "0_Transformer" / "sentence_roberta_config.json", {"max_seq_length": 7, "do_lower_case": True})


def short(folder):
    two(folder, pooling_mode="mean")
    write(folder / "sentence_bert_config.json", {"max_seq_length": 9, "do_lower_case": False})


def longer_than_the_tokenizer_says(folder):
    two(folder, pooling_mode="mean")
    edit(folder / "tokenizer_config.json", model_max_length=8)
    write(folder / "sentence_distilbert_config.json", {"max_seq_length": 30})


def empty_first_file(folder):
    two(folder, pooling_mode="mean")
    write(folder / "sentence_bert_config.json", {})
    write(folder / "sentence_xlnet_config.json", {"max_seq_length": 6})


def lower_case(folder):
    two(folder, pooling_mode="mean")
    write(folder / "sentence_bert_config.json", {"do_lower_case": True})


def old_argument_names(folder):
    two(folder, pooling_mode="mean")
    arguments = {"model_max_length": 8, "truncation_side": "left"}
    settings = {"tokenizer_args": arguments, "model_args": {"attn_implementation": "eager"}, "config_args": {}}
    write(folder / "sentence_bert_config.json", {**settings, "max_seq_length": 20})


def length_of_the_call(folder):
    two(folder, pooling_mode="mean")
    calls = {"text": {"max_length": 5, "truncation": True}, "common": {"return_tensors": "pt"}}
    write(folder / "sentence_bert_config.json", {"max_seq_length": 20, "processing_kwargs": calls})


def cut_on_the_left(folder):
    short(folder)
    edit(folder / "tokenizer_config.json", truncation_side="left")


def cut_by_the_tokenizer_s_own_file(folder):
    short(folder)
    truncation = {"direction": "Left", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    padding = {"strategy": {"Fixed": 32}, "direction": "Right", "pad_to_multiple_of": None}
    pad = {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    edit(folder / "tokenizer.json", truncation=truncation, padding={**padding, **pad})


def prompts(folder):
    two(folder, pooling_mode="mean")
    named = {"query": "the film : ", "document": None}
    write(folder / "config_sentence_transformers.json", {"prompts": named, "default_prompt_name": "query"})


def prompt_left_out(folder, mode="mean"):
    two(folder, pooling_mode=mode, include_prompt=False)
    config = {"prompts": {"p": "the film was "}, "default_prompt_name": "p", "similarity_fn_name": "dot"}
    write(folder / "config_sentence_transformers.json", config)


def prompt_left_out_of_several(folder):
    prompt_left_out(folder, ["cls", "max", "weightedmean", "lasttoken", "mean_sqrt_len_tokens"])


def default_name_without_a_text(folder):
    two(folder, pooling_mode="mean")
    write(folder / "config_sentence_transformers.json", {"prompts": {}, "default_prompt_name": "document"})


def dense_tanh(folder):
    two(folder, pooling_mode="mean")
    modules(folder, "Transformer", "Pooling", "Dense", "Normalize")
    dense(folder, "2_Dense", HIDDEN, 24)


def dense_of_two_poolings(folder):
    two(folder, pooling_mode=["cls", "mean"])
    modules(folder, "Transformer", "Pooling", "Dense", "Dense")
    dense(folder, "2_Dense", 2 * HIDDEN, 20, "torch.nn.modules.linear.Identity", bias=False)
    dense(folder, "3_Dense", 20, 20, "torch.nn.modules.activation.GELU", use_residual=True)


def dense_with_a_shortcut(folder):
    two(folder, pooling_mode="cls")
    modules(folder, "Transformer", "Pooling", "Dense")
    dense(folder, "2_Dense", HIDDEN, 5, "torch.nn.modules.activation.SiLU", use_residual=True)


def norm_and_dropout(folder):
    two(folder, pooling_mode="mean")
    modules(folder, "Transformer", "Pooling", "Dropout", "LayerNorm", "Normalize")
    write(folder / "2_Dropout" / "config.json", {"dropout": 0.5})
    write(folder / "3_LayerNorm" / "config.json", {"dimension": HIDDEN})
    weights(folder / "3_LayerNorm", norm__weight=(HIDDEN,), norm__bias=(HIDDEN,))


def few_dimensions(folder):
    two(folder, pooling_mode="mean")
    modules(folder, "Transformer", "Pooling", "Normalize")
    write(folder / "config_sentence_transformers.json", {"truncate_dim": 5, "requirements": {}, "__version__": {}})


def of_a_language_model(folder):
    save_encoder(folder, "bert")
    edit(folder / "config.json", architectures=["BertForCausalLM"])


FORMS = [
    plain, cls_flag, no_flag, three_flags, mode_before_flags, modes_in_order, list_of_one, last_token_of_roberta,
    pooling_elsewhere, new_names, sub_folder, short, longer_than_the_tokenizer_says, empty_first_file, lower_case,
    old_argument_names, length_of_the_call, cut_on_the_left, cut_by_the_tokenizer_s_own_file, prompts, prompt_left_out,
    prompt_left_out_of_several, default_name_without_a_text, dense_tanh, dense_of_two_poolings, dense_with_a_shortcut,
    norm_and_dropout, few_dimensions, of_a_language_model,
]  # fmt: skip
