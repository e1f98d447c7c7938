"""Several networks at once: in order, on their share of the threads, and the first error ends the rest."""

import threading
import time

import pytest
import torch

from compiler.execution import threads as module
from compiler.execution.threads import in_turn, side_by_side
from compiler.oneshot.reconstruction import residual_sums
from compiler.slicing import SubnetRunner
from compiler.spaces import Subnet
from tests.tiny import HEADS, LAYERS, UNITS, tiny_checkpoint


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    assert torch.get_num_threads() == 4, "given back"
    torch.set_num_threads(before)


def inputs_of(checkpoint, ids):
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return {name: inputs.get(name, torch.zeros_like(ids)) for name in checkpoint.input_names}


def seen(most: int):
    """Work that waits until as many as this are at it, and what each saw."""
    together = threading.Barrier(most)

    def work(item):
        together.wait(timeout=20)
        return item, torch.get_num_threads(), threading.get_ident()

    return work


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(
    ("items", "parameters", "at_once"),
    [(8, 1, 4), (2, 1, 2), (3, 1, 3), (4, 150, 2), (4, 399, 1), (1, 1, 1), (4, 900, 1)],
)
def test_threads_are_dealt_out_among_as_many_networks_as_there_are_and_as_memory_allows(
    monkeypatch, items, parameters, at_once
):
    monkeypatch.setattr(module, "MOST_PARAMETERS", 400)
    whole = items - items % at_once
    shares = []
    results = side_by_side(seen(at_once), range(whole), parameters=parameters, progress=shares.append)
    assert [item for item, _, _ in results] == list(range(whole))
    assert {threads for _, threads, _ in results} == {4 // at_once}
    assert len({thread for _, _, thread in results}) == at_once
    assert shares == pytest.approx([(n + 1) / whole for n in range(whole)])


@pytest.mark.usefixtures("four_threads")
def test_never_more_than_a_few_whatever_the_machine_has(monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 2)
    assert {threads for _, threads, _ in side_by_side(seen(2), range(6), parameters=1)} == {2}


@pytest.mark.usefixtures("four_threads")
def test_the_first_error_is_raised_and_what_has_not_begun_never_does():
    begun = []

    def work(item):
        begun.append(item)
        if item == 0:
            raise ValueError("network 0")
        time.sleep(0.05)

    with pytest.raises(ValueError, match="network 0"):
        side_by_side(work, range(100), parameters=1)
    assert len(begun) < 20


def test_one_after_another_is_the_same_without_threads():
    assert in_turn(lambda item: (item, threading.current_thread()), [3, 1]) == [
        (3, threading.main_thread()),
        (1, threading.main_thread()),
    ]
    assert side_by_side(str, [], parameters=1) == []


@pytest.mark.usefixtures("four_threads")
def test_threads_that_run_networks_of_one_skeleton_do_not_see_each_others_weights(tmp_path):
    checkpoint = tiny_checkpoint(tmp_path)
    runner = SubnetRunner(checkpoint.model, checkpoint.architecture)
    ids = torch.randint(5, checkpoint.architecture.vocabulary, (4, 16), generator=torch.Generator().manual_seed(0))
    inputs = inputs_of(checkpoint, ids)
    subnets = [
        Subnet.of([range(1 + (n + layer) % HEADS) for layer in range(LAYERS)], [range(8 + n % UNITS)] * LAYERS)
        for n in range(24)
    ]

    def answer(subnet):
        with torch.inference_mode():
            return runner(subnet, inputs)[-1]

    torch.set_num_threads(1)
    expected = in_turn(answer, subnets)
    torch.set_num_threads(4)
    for _ in range(3):
        for one, other in zip(side_by_side(answer, subnets, parameters=1), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.usefixtures("four_threads")
def test_a_model_is_copied_while_its_residual_sums_are_taken(tmp_path):
    checkpoint = tiny_checkpoint(tmp_path)
    ids = torch.randint(5, checkpoint.architecture.vocabulary, (64, 16), generator=torch.Generator().manual_seed(0))
    batch = inputs_of(checkpoint, ids)
    expected = residual_sums(checkpoint, batch)
    runner = SubnetRunner(checkpoint.model, checkpoint.architecture, cached=1)

    def work(item):
        if item % 4 == 0:
            return residual_sums(checkpoint, batch)
        shape = [range(1 + (item + layer) % HEADS) if (item + layer) % 3 else () for layer in range(LAYERS)]
        with torch.inference_mode():
            return runner(
                Subnet.of(shape, [range(9)] * LAYERS), {name: values[:5, :7] for name, values in batch.items()}
            )

    for sums in side_by_side(work, range(64), parameters=1)[::4]:
        for key, values in sums.items():
            torch.testing.assert_close(values, expected[key])
