"""From a kernel to the problem that its formula takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from memplan.cost.attention import AttentionProblem
from memplan.cost.attention.attention_operands import attention_of
from memplan.cost.kernels.kernel import CPU_CORES, Kernel
from memplan.cost.kernels.op_classes import CONVOLUTIONS, OpClass, op_class
from memplan.cost.machine import Machine
from memplan.cost.products import MatmulProblem
from memplan.cost.products.convolution import convolution_of
from memplan.cost.products.kernel_products import ProductOperands, chunk_products_of, einsum_of, matmul_of, recurrent_of
from memplan.cost.products.layout_copies import as_cube_takes
from memplan.cost.vector import vector_passes


@dataclass(frozen=True, slots=True)
class KernelProblem:
    """
    What a kernel computes, as its formula takes it: a product, attention, or neither (`matmul` and `attention` are
    `None`), which is vector work, a collective or an AI CPU op by `rule.kind` and `on_cpu`.

    `passes` are vector instructions on each element of a product; `mac_rate` is multiply-accumulates per cycle of one
    cube core for the attention; `assumed` says what the operands did not tell.
    """

    rule: OpClass
    matmul: MatmulProblem | None = None
    passes: float = 0.0
    attention: AttentionProblem | None = None
    mac_rate: float = 0.0
    on_cpu: bool = False
    assumed: str = ""


def problem_of(kernel: Kernel, machine: Machine, *, hot_share: float = 0.0) -> KernelProblem:
    """The problem that `kernel` is on `machine`, with `hot_share` of a product's operands in L2 beforehand."""
    rule = op_class(kernel.type, machine.npu_arch)
    if kernel.core.upper() in CPU_CORES:
        return KernelProblem(rule, on_cpu=True)
    product = _product(kernel, rule, machine)
    if product.matmul is not None:
        hot_bytes = hot_share * (product.matmul.a_total + product.matmul.b_total)
        scaled = 0.0 if _scaled_on_the_way(kernel, rule, machine) else vector_passes(rule, machine)
        passes = scaled + _activation(kernel, machine)
        matmul = replace(product.matmul, hot_bytes=hot_bytes)
        return KernelProblem(rule, matmul=matmul, passes=passes, assumed=product.assumed or rule.assumed)
    if rule.kind in ("attention", "attention_gradient"):
        told = attention_of(kernel, gradient=rule.kind == "attention_gradient")
        rate = machine.product_rate(kernel.present[0].dtype) if kernel.present else None
        if told.attention is not None and rate is not None:
            return KernelProblem(rule, attention=told.attention, mac_rate=rate, assumed=told.assumed)
    return KernelProblem(rule)


def _product(kernel: Kernel, rule: OpClass, machine: Machine) -> ProductOperands:
    """The product that a kernel of class `rule` is computed by, none for classes that multiply no matrices."""
    if rule.kind in CONVOLUTIONS:
        return ProductOperands(convolution_of(as_cube_takes(kernel, machine, blocks_alone=False), machine, rule.kind))
    if rule.kind == "einsum":
        return einsum_of(kernel, machine)
    if rule.kind == "recurrent":
        return recurrent_of(kernel, machine)
    if rule.kind == "chunk_products":
        return chunk_products_of(kernel, machine)
    if rule.kind in ("matmul", "grouped_matmul"):
        kernel = as_cube_takes(kernel, machine, blocks_alone=True)
        return matmul_of(kernel, machine, grouped=rule.kind == "grouped_matmul", added=rule.rule == "added_matmul")
    return ProductOperands()


_FIXPIPE_SCALES = frozenset({"uint64", "int64"})


def _scaled_on_the_way(kernel: Kernel, rule: OpClass, machine: Machine) -> bool:
    """
    Whether FixPipe scales sums as it writes them, for which scales have a type of 64 bits, one for all columns or one
    for each (aclnnTransQuantParam), or they stay as they are. Else vector cores do (ops-nn, QuantBatchMatmulV3: results
    of bfloat16, scales of tokens). Grouped products of this kind also gate or quantise, and their int64 operands tell
    where groups end.
    """
    if machine.direct or rule.kind == "grouped_matmul":
        return False
    scales = [operand.dtype for operand in kernel.present[2:]]
    sums = [operand.dtype for operand in kernel.outputs[:1]]
    return any(dtype in _FIXPIPE_SCALES for dtype in scales) or sums == ["int32"]


def _activation(kernel: Kernel, machine: Machine) -> float:
    """Vector instructions of an activation fused behind a matmul, from its attribute."""
    name = kernel.attribute("activation")
    return vector_passes(op_class(name), machine) if isinstance(name, str) and name not in ("", "none") else 0.0
