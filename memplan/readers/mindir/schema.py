"""
The fields of MindIR that memplan reads.

Field numbers and enum values are those of MindSpore 2.10.0 (`mindspore/train/mind_ir_pb2.py`, package `mind_ir`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from functools import cache
from typing import Any

from memplan.readers.protobuf import message_class

_TABLE = {
    "ModelProto": "1 ir_version string, 2 producer_name string, 5 model_version string, 7 graph GraphProto,"
    "8 functions *GraphProto, 11 parallel ParallelProto, 12 primitives *PrimitiveProto, 13 mind_ir_version int64",
    "GraphProto": "1 node *NodeProto, 2 name string, 3 parameter *TensorProto, 5 input *ValueInfoProto,"
    "6 output *ValueInfoProto, 8 attribute *AttributeProto, 10 map_parameter *MapTensorProto",
    "NodeProto": "1 input *string, 2 output *string, 3 name string, 4 op_type string, 5 attribute *AttributeProto,"
    "7 domain string, 8 node_attr *AttributeProto, 9 primal_attr *AttributeProto",
    "PrimitiveProto": "1 name string, 2 op_type string, 3 attribute *AttributeProto, 4 instance_name string,"
    "5 prim_type int32",
    "ValueInfoProto": "1 name string, 2 tensor *TensorProto, 4 denotation string, 5 attr_info AttributeProto",
    "TensorProto": "1 dims *int64, 2 data_type int32, 7 name string, 9 raw_data bytes, 13 ref_key string,"
    "14 min_dims *int64, 15 max_dims *int64, 12 external_data ExternalDataProto",
    "ExternalDataProto": "1 location string, 2 offset int64, 3 length int64",
    "MapTensorProto": "1 name string, 3 key_tensor AttributeProto, 4 value_tensor AttributeProto,"
    "5 status_tensor AttributeProto",
    "AttributeProto": "1 name string, 2 f float, 3 i int64, 4 d double, 5 s bytes, 8 floats *float,"
    "9 doubles *double, 10 ints *int64, 11 strings *bytes, 12 tensors *TensorProto, 16 type int32,"
    "17 values *AttributeProto, 19 functor FunctorProto",
    "FunctorProto": "1 type int32, 2 name string, 3 values *AttributeProto",
    "ParallelProto": "1 layout *LayoutProto",
    "LayoutProto": "1 name string, 2 device_arrangement_int *int64, 3 tensor_map_int *int64, 4 slice_shape_int *int64,"
    "5 field_size int64, 6 uniform_split bool, 7 opt_shard_group string, 8 pipeline_shared bool, 9 is_send bool,"
    "10 peer_rank int64, 11 sr_tag int64",
}


@cache
def model_class(*, lossless: bool = False) -> Any:
    """The protobuf class of a whole MindIR file; `lossless` for writing one back as it was."""
    return message_class("memplan.mind_ir", _TABLE, "ModelProto", lossless=lossless)


class AttributeType(IntEnum):
    """`AttributeProto.AttributeType`."""

    UNDEFINED = 0
    FLOAT = 1
    UINT8 = 2
    INT8 = 3
    UINT16 = 4
    INT16 = 5
    INT32 = 6
    INT64 = 7
    STRING = 8
    BOOL = 9
    FLOAT16 = 10
    DOUBLE = 11
    UINT32 = 12
    UINT64 = 13
    COMPLEX64 = 14
    COMPLEX128 = 15
    BFLOAT16 = 16
    TENSOR = 17
    GRAPH = 18
    TENSORS = 19
    TUPLE = 20
    LIST = 21
    DICT = 22
    UMONAD = 23
    IOMONAD = 24
    NONE = 25
    PRIMITIVECLOSURE = 26
    FUNCGRAPHCLOSURE = 27
    PARTIALCLOSURE = 28
    UNIONFUNCCLOSURE = 29
    CSR_TENSOR = 30
    COO_TENSOR = 31
    ROW_TENSOR = 32
    CLASS_TYPE = 33
    NAME_SPACE = 34
    SYMBOL = 35
    TYPE_NULL = 36
    MAP_TENSOR = 37
    FUNCTOR = 38
    SCALAR = 39
    SCALAR_GRAPH_HOLDER = 40


TENSOR_DTYPES: Mapping[int, str] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16", 17: "float64",
    18: "int4",
}  # fmt: skip
"""`TensorProto.DataType` as dtype names. 8 is a string, which is no tensor; 18 is QINT4X2, counted by 4-bit element."""
