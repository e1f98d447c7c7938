import pytest

from compiler.supernet.ranks import follows, leading
from targets.errors import InputError


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)


def enter():
    assert not follows()
    with leading():
        return True


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("RANK", "x", "RANK in the environment is 'x'"),
        ("RANK", "-1", "RANK in the environment is '-1'"),
        ("WORLD_SIZE", "1e9", "WORLD_SIZE in the environment is '1e9'"),
        ("WORLD_SIZE", "9" * 30, "WORLD_SIZE in the environment"),
        ("WORLD_SIZE", "2", "WORLD_SIZE is set in the environment and RANK is not"),
        ("RANK", "1", "RANK is set in the environment and WORLD_SIZE is not"),
    ],
)
def test_what_torchrun_did_not_set_is_refused(monkeypatch, name, value, said):
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=said):
        enter()


@pytest.mark.parametrize(("name", "value"), [("RANK", "0"), ("WORLD_SIZE", "1")])
def test_one_process_needs_no_torchrun(monkeypatch, name, value):
    assert enter()
    monkeypatch.setenv(name, value)
    assert enter()
