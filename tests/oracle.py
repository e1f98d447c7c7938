"""The oracle of cut networks: the untouched dense model, gated by hooks."""

import torch

from compiler.families import Checkpoint
from compiler.spaces import Subnet


class Masked:
    """The oracle: hooks on the dense model that zero what a sub-network lacks and gate the sub-blocks it drops."""

    def __init__(self, checkpoint: Checkpoint, subnet: Subnet) -> None:
        self.checkpoint, self.subnet, self.handles = checkpoint, subnet, []

    def __enter__(self):
        if self.subnet.residual is not None:
            self._narrow()
        for layer in range(self.checkpoint.architecture.layers):
            self._gate(layer)
        return self.checkpoint.model

    def _narrow(self) -> None:
        """Before the gates: hooks run in their order, and a dropped sub-block's norm must not count."""
        kept, hidden = list(self.subnet.residual), self.checkpoint.architecture.hidden_size

        def norm(module, args, _):
            x = args[0][..., kept]
            mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
            scaled = (x - mean) / torch.sqrt(variance + module.eps) * module.weight[kept] + module.bias[kept]
            return torch.zeros_like(args[0]).index_copy(-1, torch.tensor(kept), scaled)

        def gate(_, __, output):
            mask = torch.zeros_like(output[..., :1, :])
            mask[..., kept] = 1
            return output * mask

        for name, module in self.checkpoint.model.backbone.named_modules():
            if isinstance(module, torch.nn.LayerNorm) and module.normalized_shape == (hidden,):
                self.handles.append(module.register_forward_hook(norm))
            if name.endswith("embeddings_project"):
                self.handles.append(module.register_forward_hook(gate))

    def _gate(self, layer: int) -> None:
        """Zeros where the output projection reads what is gone; a dropped branch leaves the stream as it is."""
        find = self.checkpoint.model.backbone.get_submodule
        groups = (self.subnet.heads[layer], self.subnet.units[layer])
        for branch, kept in zip(self.checkpoint.architecture.branches(layer), groups, strict=True):
            mask = torch.zeros(branch.groups, branch.output.slots, branch.output.rows_of_slot, dtype=torch.float64)
            mask[list(kept)] = 1
            if branch.piece == "attention" and self.subnet.queries is not None:
                mask[:] = 0
                for group, slots in zip(kept, self.subnet.queries.kept[layer], strict=True):
                    mask[group, list(slots)] = 1
            self.handles.append(find(branch.output.module).register_forward_pre_hook(_times(mask.flatten())))
            if not kept:
                self._skip(branch)

    def _skip(self, branch) -> None:
        """Post-norm: the norm gives what the branch read; else nothing is added."""
        read = []
        find = self.checkpoint.model.backbone.get_submodule

        def enter(_, args, kwargs):
            read.append(args[0] if args else kwargs["hidden_states"])

        if branch.after is None:
            self.handles.append(find(branch.written).register_forward_hook(lambda _, __, output: output * 0))
        else:
            self.handles.append(find(branch.entry).register_forward_pre_hook(enter, with_kwargs=True))
            self.handles.append(find(branch.after).register_forward_hook(lambda *_: read.pop()))

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


def _times(mask):
    return lambda _, args: (args[0] * mask,)
