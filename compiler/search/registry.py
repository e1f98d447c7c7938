"""Every search method by name."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

from compiler.search.aging import AgingEvolution
from compiler.search.asha import MoAsha
from compiler.search.bandit import BanditSearch
from compiler.search.bayesian import Ehvi, LinearScalarisation, RandomScalarisation
from compiler.search.evolution import Nsga2, Nsga3
from compiler.search.local import LocalSearch, RandomSearch
from compiler.search.method import Known, Method, Sampler
from compiler.search.seeded import SeededFront
from compiler.search.surrogate import SurrogateSearch
from compiler.spaces import Space
from compiler.spaces.subnet import IntArray
from targets.errors import InputError

METHODS: dict[str, Callable[..., Method]] = {
    "random": RandomSearch,
    "local": LocalSearch,
    "nsga2": Nsga2,
    "exact": partial(SeededFront, name="exact"),
    "gates": partial(SeededFront, name="gates"),
    "nsga3": Nsga3,
    "mo-rea": AgingEvolution,
    "bandit": BanditSearch,
    "surrogate": SurrogateSearch,
    "ehvi": Ehvi,
    "rs-bo": RandomScalarisation,
    "ls-bo": LinearScalarisation,
    "mo-asha": MoAsha,
}
BAYESIAN = ("ehvi", "rs-bo", "ls-bo")
AROUND_SEEDS = ("exact", "gates")
"""Methods that search along a front of seeds."""


def check_method(name: str) -> None:
    """InputError that lists the known names, or that says how to install what the method needs."""
    if name not in METHODS:
        raise InputError(f"--search {name!r} is not known; known: {', '.join(METHODS)}")
    if name in BAYESIAN and find_spec("botorch") is None:
        raise InputError(f"--search {name} needs BoTorch, which is not installed: pip install 'paretoc[bo]'")


def make_method(
    name: str, space: Space, sampler: Sampler, *, seed: int, seeds: IntArray | None = None, known: Known | None = None
) -> Method:
    """The named method. InputError for what `check_method` refuses."""
    check_method(name)
    return METHODS[name](space, sampler, seed=seed, seeds=seeds, known=known)
