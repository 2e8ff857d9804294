"""Kernels of the rows of a profile, as their texts tell shapes, types and formats."""

from __future__ import annotations

from memplan.core.resources import table
from memplan.cost.kernels.kernel import Kernel, Operand


def kernel_of_row(
    op_type: str,
    input_shapes: str,
    input_dtypes: str,
    output_shapes: str,
    output_dtypes: str,
    *,
    input_formats: str = "",
    output_formats: str = "",
    block_count: int = 0,
    core: str = "",
) -> Kernel:
    """
    The kernel of one row of a profile, whose shapes are written `4096,1024;1024,2048` and dtypes `DT_BF16;FLOAT`.

    An empty shape with a dtype is a scalar, or an optional input left out where a whole tensor would be expected;
    both move next to nothing. `core` (`AI_CPU`, `DSA_SQE`, ...) is kept as an attribute.
    """
    inputs = _operands(input_shapes, input_dtypes, input_formats)
    outputs = _operands(output_shapes, output_dtypes, output_formats)
    return Kernel(
        type=op_type,
        inputs=tuple(inputs),
        outputs=tuple(operand for operand in outputs if operand is not None),
        attributes=(("core", core),) if core else (),
        block_count=max(block_count, 0),
    )


def _operands(shapes: str, dtypes: str, formats: str) -> list[Operand | None]:
    shapes, dtypes = shapes.strip().strip('"'), dtypes.strip().strip('"')
    if shapes == "N/A" or dtypes in ("N/A", ""):
        return []
    names = table("memplan.cost", "kernels.json")["dtypes"]
    layouts = formats.strip().strip('"').split(";")
    found: list[Operand | None] = []
    types = dtypes.split(";")
    for index, text in enumerate(shapes.split(";")):
        dtype = names.get(types[index].strip() if index < len(types) else "", "")
        shape = _shape(text)
        if shape is None or not dtype:
            found.append(None)
            continue
        layout = _layout(layouts[index]) if index < len(layouts) else "ND"
        found.append(Operand(_stored_shape(shape, layout), dtype, layout))
    return found


def _stored_shape(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """
    The shape in GM: profiles print the mask of a pooling's maxima, which is in blocks of channels, with the channels
    themselves in front and a dimension twice (`N,C,taps,taps,rows,16`).
    """
    if layout == "NC1HWC0" and len(shape) == _MASK_DIMS and shape[2] == shape[3] and shape[5]:
        return shape[0], -(-shape[1] // shape[5]), *shape[3:]
    return shape


_MASK_DIMS = 6


def _layout(text: str) -> str:
    """The layout that a profile's format means; `NC1HWC0:1` says in how many groups its channels are."""
    name = text.split(":")[0].strip().upper()
    return "NZ" if "NZ" in name else name if name in ("NC1HWC0", "FRACTAL_Z") else "ND"


def _shape(text: str) -> tuple[int, ...] | None:
    """Dimensions of `4096,1024`; `()` for an empty text, `None` for anything else or a negative size."""
    try:
        shape = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        return None
    return shape if all(0 <= dim < 2**40 for dim in shape) else None
