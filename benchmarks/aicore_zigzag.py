"""
ZigZag (PyPI `zigzag-dse`, with `six`) on the memory hierarchy of one 2201 core; run by an interpreter that has both.

Reads shapes as JSON (`[[m, n, k], ...]`) from standard input and writes, for each, the elements that cross between GM
and the core, and CPU seconds, as JSON. ZigZag's default engine (LOMA, lpf_limit 6) is asked for the least energy, in
which GM accesses cost most, and for the least latency; of the two answers that with less GM traffic counts, and its own
CPU time. Memories are those of the core, L0A, L0B, L1, L0C, with double buffering forced as on the core.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def _port(name: str, kind: str, operands: list[str], bits: int) -> dict[str, Any]:
    return {"name": name, "type": kind, "bandwidth_min": 8, "bandwidth_max": bits, "allocation": operands}


def _memory(size: int, cost: float, operands: list[str], bits: int, *, double: bool) -> dict[str, Any]:
    reads = [f"{o}, tl" for o in operands] + (["O, th"] if "O" in operands else [])
    writes = [f"{o}, fh" for o in operands] + (["O, fl"] if "O" in operands else [])
    return {
        "size": size * 8, "r_cost": cost, "w_cost": cost, "area": 0, "latency": 1, "operands": operands,
        "ports": [_port("r_port_1", "read", reads, bits), _port("w_port_1", "write", writes, bits)],
        "served_dimensions": ["D1", "D2", "D3"], "force_double_buffering": double,
    }  # fmt: skip


def accelerator(path: Path) -> None:
    """Write the description of one core: I1 is A, I2 is B, O is C."""
    import yaml

    document = {
        "name": "core_2201",
        "memories": {
            "l0a": _memory(65536, 1.0, ["I1"], 2048, double=True),
            "l0b": _memory(65536, 1.0, ["I2"], 1024, double=True),
            "l0c": _memory(131072, 1.0, ["O"], 8192, double=False),
            "l1": _memory(524032, 10.0, ["I1", "I2"], 2048, double=True),
            "gm": _memory(10**11, 1000.0, ["I1", "I2", "O"], 1024, double=False),
        },
        "operational_array": {
            "unit_energy": 0.01,
            "unit_area": 1,
            "dimensions": ["D1", "D2", "D3"],
            "sizes": [16, 16, 16],
        },
    }
    path.write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")


def mapping(path: Path) -> None:
    """Write the cube's spatial unrolling: 16 rows of A, 16 columns of B, 16 of the reduced dimension."""
    import yaml

    layer = {
        "name": "default",
        "spatial_mapping": {"D1": ["D, 16"], "D2": ["K, 16"], "D3": ["C, 16"]},
        "memory_operand_links": {"O": "O", "W": "I2", "I": "I1"},
    }
    path.write_text(yaml.safe_dump([layer]), "utf-8")


def workload(path: Path, m: int, n: int, k: int) -> None:
    """Write one product as a layer; extents are padded to the cube's 16."""
    import yaml

    m, n, k = (-(-size // 16) * 16 for size in (m, n, k))
    layer = {
        "id": 0, "name": "gemm", "operator_type": "Gemm", "equation": "O[b][d][k]+=I[b][d][c]*W[c][k]",
        "loop_dims": ["B", "D", "K", "C"], "loop_sizes": [1, m, n, k],
        "operand_precision": {"O": 32, "O_final": 16, "W": 16, "I": 16}, "operand_source": {"W": 0, "I": 0},
    }  # fmt: skip
    path.write_text(yaml.safe_dump([layer]), "utf-8")


def traffic(m: int, n: int, k: int, folder: Path) -> dict[str, float]:
    """GM traffic in elements and CPU seconds of ZigZag for one product: the better answer for two objectives."""
    answers = [_answer(m, n, k, folder, objective) for objective in ("energy", "latency")]
    return min(answers, key=lambda answer: answer["elements"])


def _answer(m: int, n: int, k: int, folder: Path, objective: str) -> dict[str, float]:
    from zigzag.api import get_hardware_performance_zigzag

    accelerator(folder / "core.yaml")
    mapping(folder / "mapping.yaml")
    workload(folder / "gemm.yaml", m, n, k)
    started = time.process_time()
    result = get_hardware_performance_zigzag(
        workload=str(folder / "gemm.yaml"), accelerator=str(folder / "core.yaml"), mapping=str(folder / "mapping.yaml"),
        opt=objective, dump_folder=str(folder / "out"), loma_show_progress_bar=False,
    )  # fmt: skip
    seconds = time.process_time() - started
    cme = result[2][0][0]
    accesses = {str(operand): levels[-1] for operand, levels in cme.memory_word_access.items()}
    elements = {}
    for operand, level in accesses.items():
        words = sum(getattr(value, "data", value) for value in _values(level))
        # A word of GM is its 1024-bit port; A, B and the finished C are 16 bits an element.
        elements[operand] = words * 1024 / 16
    return {"elements": sum(elements.values()), "cpu_seconds": seconds, **{f"of_{o}": e for o, e in elements.items()}}


def _values(level: Any) -> list[float]:
    data = level.data if hasattr(level, "data") else level
    return [float(value) for value in data.values()]


def main() -> None:
    """Shapes in, figures out."""
    logging.disable(logging.CRITICAL)
    shapes = json.load(sys.stdin)
    found = []
    for m, n, k in shapes:
        with tempfile.TemporaryDirectory() as folder:
            found.append(traffic(m, n, k, Path(folder)))
            print(m, n, k, found[-1], file=sys.stderr)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
