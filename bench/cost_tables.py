"""Cost models of tables that were measured before."""

from pathlib import Path

from compiler.costing import CostModel
from profilers import CostTable, Workload
from targets import shipped_files
from targets.errors import InputError

MINILM = "cpu-minilm.json"


def cost_model(name: str = MINILM, precision: str = "fp32") -> CostModel:
    """A table by its file, or one that ships by its name: batch 1, 128 tokens, one thread."""
    workload = Workload(batch=1, tokens=128, threads=1, precision=precision, runtime="onnxruntime")
    shipped = {file.name: Path(str(file)) for file in shipped_files("cpu")}
    path = shipped.get(name, Path(name))
    if not path.is_file():
        raise InputError(f"no cost table {name}\ngive a file, or one of those that ship: {', '.join(shipped)}")
    return CostModel.of(CostTable.read(path).under([workload]), workload)
