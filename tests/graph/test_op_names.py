"""Framework, operator library and device spell one op differently; its family is one."""

from __future__ import annotations

import pytest

from memplan.core.resources import table
from memplan.graph.op_names import LibraryKernel, library_kernel, op_family, op_spellings, table_names, type_of_kernel


@pytest.mark.parametrize(
    ("family", "spellings"),
    [
        ("matmul", ["MatMul", "MatMulExt", "MatMulV2", "MatMulV3", "MatMulCommon", "MatMulV3Common", "aclnnMatmul",
                    "aclnnMm", "aclnnAddmm", "Dense", "Linear"]),
        ("batchmatmul", ["BatchMatMul", "BatchMatMulV2", "BatchMatMulExt", "aclnnBatchMatMul", "Bmm"]),
        ("concat", ["Concat", "ConcatD", "ConcatV2", "aclnnCat"]),
        ("add", ["Add", "aclnnAdd", "aclnnAdds", "AddAiCore", "AddExt"]),
        ("reducesum", ["ReduceSum", "ReduceSumD", "SumExt", "aclnnReduceSum", "ReduceSumOpAiCore"]),
        ("greater", ["Greater", "aclnnGtScalar", "GreaterAiCore"]),
        ("tensormove", ["TensorMove", "TensorMoveAiCore"]),
        ("allreduce", ["AllReduce", "hcom_allReduce_", "DistCommAllReduce"]),
        ("relugrad", ["ReluGrad", "aclnnThresholdBackward"]),
        ("logsoftmaxgrad", ["LogSoftmaxGrad", "aclnnLogSoftmaxBackward"]),
        ("layernorm", ["LayerNorm", "LayerNormV3", "LayerNormExt"]),
        ("topk", ["TopK", "TopKV2", "TopkV2", "TopKExt", "aclnnTopk"]),
        ("zeroslike", ["ZerosLike", "aclnnInplaceZero", "ZerosLikeAiCore"]),
    ],
)  # fmt: skip
def test_all_spellings_of_an_op_are_one_family(family: str, spellings: list[str]) -> None:
    assert {name: op_family(name) for name in spellings} == dict.fromkeys(spellings, family)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Relu", "ReluGrad"), ("MatMul", "BatchMatMul"), ("Add", "AddN"), ("Conv2D", "Conv3D"), ("Add", "Mul"),
     ("ReduceSum", "ReduceMean"), ("TransData", "Transpose"), ("Pad", "Pack"), ("RmsNorm", "RmsNormGrad")],
)  # fmt: skip
def test_other_ops_are_other_families(one: str, other: str) -> None:
    assert op_family(one) != op_family(other)


def test_names_that_end_like_a_suffix_are_left_whole() -> None:
    assert [op_family(name) for name in ("Add", "Pad", "V2", "Ext", "", "aclnn", "D")] == [
        "add", "pad", "v2", "ext", "", "aclnn", "d"
    ]  # fmt: skip


def test_a_table_is_asked_for_the_full_name_first_and_for_the_op_of_a_gradient_last() -> None:
    assert table_names("ConcatD")[:2] == ("concatd", "concat")
    assert table_names("aclnnRmsNormGradV2")[0] == "rmsnormgradv2"
    assert table_names("RmsNormGrad")[-1] == "rmsnorm"


def test_a_kernel_of_the_library_names_call_op_and_kernel() -> None:
    name = "aclnnMatmul_MatMulV3Common_MatMulV3"
    assert library_kernel(name) == LibraryKernel("aclnnMatmul", "MatMulV3Common", "MatMulV3")
    assert library_kernel(f"Default/q-Dense/{name}") == library_kernel(name)
    assert {op_family(part) for part in ("aclnnMatmul", "MatMulV3Common", "MatMulV3")} == {"matmul"}
    assert library_kernel("MatMul103") is library_kernel("Default/MatMul-op1") is None
    cleared = library_kernel("aclnnMm_MatMulCommon_MemSet")
    assert cleared is not None
    assert cleared.helper
    assert [type_of_kernel(text) for text in (name, "Default/MatMul-op3", "Expand/_SumExt/Cast-op2", "MatMul103")] == [
        "MatMulV3", "MatMul", "SumExt", ""
    ]  # fmt: skip


def test_a_kernel_below_an_op_may_be_that_op() -> None:
    assert list(op_spellings("Default/MatMul-op0/te_matmul_123")) == [
        "Default/MatMul-op0/te_matmul_123", "Default/MatMul-op0"
    ]  # fmt: skip


def test_every_spelling_of_the_table_has_a_source_and_leads_to_its_family() -> None:
    document = table("memplan.graph", "op_names.json")
    assert all(document[part]["source"] for part in ("prefixes", "suffixes", "gradient", "helpers"))
    names = [name for entry in document["families"].values() for name in entry["names"]]
    assert len(names) == len(set(names))
    for family, entry in document["families"].items():
        assert entry["source"]
        assert op_family(family) == family
        assert {op_family(name) for name in entry["names"]} == {family}
