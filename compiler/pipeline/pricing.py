"""What sub-networks are predicted to cost in each form that a run searches."""

from collections.abc import Mapping
from dataclasses import dataclass

from compiler.costing import Costs
from compiler.evaluation import Quality
from compiler.pipeline.networks import Evaluated
from compiler.spaces import Form, Subnet


@dataclass(frozen=True, slots=True)
class Pricing:
    """Cost models by precision; `fp32` is always among them, since exceptions stay in it."""

    costs: Mapping[str, Costs]

    def of(self, form: Form) -> Costs:
        """What networks of a form cost: exceptions take what they take in fp32."""
        costs = self.costs[form.precision]
        return costs.with_exceptions(self.costs["fp32"], form.exceptions) if form.exceptions else costs

    def evaluated(self, name: str, subnet: Subnet, form: Form, quality: Quality, trained: float = 1.0) -> Evaluated:
        """A sub-network of known quality with its predicted costs."""
        costs = self.of(form).of(subnet.counts)
        return Evaluated(
            id=name,
            subnet=subnet,
            form=form.of(subnet.shape),
            quality=quality,
            costs={objective: float(values[0]) for objective, values in costs.items()},
            trained=trained,
        )

    def best_batch(self, network: Evaluated) -> int:
        """The batch of most sequences a second that is predicted, where the run asks for throughput."""
        throughput = self.of(network.form).throughput
        assert throughput is not None  # noqa: S101  the caller asked
        return int(throughput.best(network.subnet.counts)[0][0])
