"""Settings under which the code in a model folder computes something else than transformers' own class of the same type."""

from collections.abc import Mapping
from typing import Any

_NOMIC_NAMES = {
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_layer": "num_hidden_layers",
    "n_inner": "intermediate_size",
    "layer_norm_epsilon": "layer_norm_eps",
}
"""What the folder's code calls a setting that transformers' class reads under another name."""

_NOMIC_FIXED: Mapping[str, tuple[Any, ...]] = {
    "prenorm": (False,),
    "use_rms_norm": (False, None),
    "qkv_proj_bias": (False,),
    "mlp_fc1_bias": (False,),
    "mlp_fc2_bias": (False,),
    "rotary_emb_fraction": (1,),
    "rotary_emb_interleaved": (False,),
    "rotary_emb_scale_base": (None,),
    "activation_function": ("swiglu",),
}
"""What transformers' class computes, whatever the file says."""


def refused_nomic_bert(config: Any) -> str | None:
    """Why a configuration of Nomic's own code is not what transformers' class makes of it; None where it is.

    That code names its settings as GPT-2 does. Transformers' class reads other names, and computes with defaults without a word.
    """
    for theirs, ours in _NOMIC_NAMES.items():
        found = getattr(config, theirs, None)
        if found is not None and found != getattr(config, ours):
            return f"{theirs} {found} is not read by transformers, whose {ours} is {getattr(config, ours)}\nsay {ours} {found} too"
    for key, computed in _NOMIC_FIXED.items():
        if (found := getattr(config, key, computed[0])) not in computed:
            return f"{key} {found!r} is not supported; transformers computes with {computed[0]!r}"
    theta, read = getattr(config, "rotary_emb_base", None), (config.rope_parameters or {}).get("rope_theta")
    if theta is not None and theta != read:
        return f"rotary_emb_base {theta} is not read by transformers, whose rope_theta is {read}\nsay rope_theta {theta} too"
    return None
