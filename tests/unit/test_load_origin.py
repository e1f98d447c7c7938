"""subnet.json of a compiled model: what is refused, and what the configuration beside it must have."""

import json

import pytest

from compiler.export import load_sliced, read_origin, save_checkpoint
from compiler.slicing import slice_parameters
from compiler.spaces import Subnet
from targets.errors import InputError
from tests.model_folder import set_config
from tests.tiny import HEADS, HIDDEN, LAYERS, UNITS, tiny_checkpoint

GOOD = {"schema": 1, "task": "embedding", "base": "m", "heads": [[0, 1]], "ffn_units": [[2, 5]]}


def write(folder, **changes):
    (folder / "subnet.json").write_text(json.dumps(GOOD | changes), encoding="utf-8")
    return folder


def test_what_is_written_is_read(tmp_path):
    assert read_origin(write(tmp_path)) == ("embedding", "m", Subnet.of([[0, 1]], [[2, 5]]), {})


BAD = {
    "negative": {"heads": [[-1, 0]]},
    "twice": {"heads": [[1, 1]]},
    "unsorted": {"ffn_units": [[5, 2]]},
    "huge": {"ffn_units": [[2, 10**30]]},
    "true": {"heads": [[True]]},
    "words": {"heads": "all"},
    "flat": {"heads": [1]},
    "layers": {"heads": [[0], [0]]},
    "many layers": {"heads": [[]] * 5000, "ffn_units": [[]] * 5000},
    "no dimension": {"residual": []},
    "dimensions": {"residual": [3, 1]},
    "task": {"task": "translation"},
    "base": {"base": None},
    "schema": {"schema": 3},
}


@pytest.mark.parametrize("kind", BAD)
def test_a_damaged_file(tmp_path, kind):
    with pytest.raises(InputError, match=r"subnet\.json"):
        read_origin(write(tmp_path, **BAD[kind]))


def test_no_such_file(tmp_path):
    with pytest.raises(InputError, match="no compiled model"):
        read_origin(tmp_path)


@pytest.fixture
def compiled(tmp_path):
    """A sub-network on disk."""
    checkpoint = tiny_checkpoint(tmp_path / "dense")
    subnet = Subnet.of([range(HEADS - 1)] * LAYERS, [range(UNITS - 8)] * LAYERS)
    parameters = dict(checkpoint.model.backbone.named_parameters())
    save_checkpoint(tmp_path / "net", checkpoint, subnet, slice_parameters(parameters, checkpoint.architecture, subnet))
    return tmp_path / "net"


@pytest.mark.parametrize(
    "changes",
    [
        {"heads": [[0, 1, HEADS]] * LAYERS},
        {"ffn_units": [[0, UNITS]] * LAYERS},
        {"residual": [0, HIDDEN]},
        {"heads": [[]] * 2, "ffn_units": [[]] * 2},
    ],
    ids=str,
)
def test_indices_that_the_model_has_not(compiled, changes):
    path = compiled / "subnet.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    with pytest.raises(InputError, match="of another model than"):
        load_sliced(compiled)


@pytest.mark.parametrize("changes", [{"num_hidden_layers": 10**12}, {"hidden_size": 2**17}], ids=str)
def test_a_configuration_of_another_size(compiled, changes):
    set_config(compiled, **changes)
    with pytest.raises(InputError):
        load_sliced(compiled)


def test_it_loads_as_it_was_saved(compiled):
    assert load_sliced(compiled).architecture.shape == ((HEADS - 1, UNITS - 8),) * LAYERS
