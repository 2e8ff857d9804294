"""What ran in a profile of AlexNet's training by torch_npu, told by hand, beside a plan of MindSpore's AlexNet."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import memplan
from memplan.align import Alignment
from memplan.schema import Plan
from memplan.traces.profile import Kernels
from tests.align.known_runs import RECORDED, Outcome, claimed_chance, named_matches

_NONE = "-"
# Last kernel of a stretch, and what its kernels are: words of the planned op's name, or that no plan has them (copies
# into buckets of gradients and their mean over ranks, the adaptive pooling that changes nothing, the accuracy).
_STRETCHES = (
    (3, "conv1-Conv2d/(Conv2D|BiasAdd)"),
    (4, "ReLU-op0"),
    (7, "pool1-MaxPool2d/MaxPool-"),
    (11, "conv2-Conv2d/(Conv2D|BiasAdd)"),
    (12, "ReLU-op1"),
    (15, "pool2-MaxPool2d/MaxPool-"),
    (19, "conv3-Conv2d/(Conv2D|BiasAdd)"),
    (20, "ReLU-op2"),
    (24, "conv4-Conv2d/(Conv2D|BiasAdd)"),
    (25, "ReLU-op3"),
    (29, "conv5-Conv2d/(Conv2D|BiasAdd)"),
    (30, "ReLU-op4"),
    (33, "pool5-MaxPool2d/MaxPool-"),
    (36, _NONE),
    (38, "drop6-Dropout/Dropout-"),
    (39, "fc6-Dense/(MatMul|BiasAdd)"),
    (40, "ReLU-op5"),
    (42, "drop7-Dropout/Dropout-"),
    (43, "fc7-Dense/(MatMul|BiasAdd)"),
    (44, "ReLU-op6"),
    (45, "fc8-Dense/(MatMul|BiasAdd)-"),
    (49, "Default/.*SparseSoftmaxCrossEntropy"),
    (66, _NONE),
    (71, "Grad_SparseSoftmaxCrossEntropy"),
    (73, "Grad_MatMul/MatMul-op0"),
    (75, "Grad_MatMul/MatMul-op3"),
    (76, "BiasAddGrad-op0"),
    (78, _NONE),
    (79, ""),
    (80, "ReluGrad-op0"),
    (82, "Grad_MatMul/MatMul-op1"),
    (84, "Grad_MatMul/MatMul-op4"),
    (85, "BiasAddGrad-op1"),
    (87, _NONE),
    (88, "DropoutGrad-op0"),
    (89, "ReluGrad-op1"),
    (91, "Grad_MatMul/MatMul-op2"),
    (92, "Grad_MatMul/MatMul-op5"),
    (93, "BiasAddGrad-op2"),
    (95, _NONE),
    (96, "DropoutGrad-op1"),
    (99, _NONE),
    (103, "MaxPoolGrad-op0"),
    (104, "ReluGrad-op2"),
    (108, "conv5.*BackpropInput-op0"),
    (113, "conv5.*BackpropFilter-op0"),
    (114, "BiasAddGrad-op3"),
    (117, _NONE),
    (118, "ReluGrad-op3"),
    (122, "BackpropInput-op1"),
    (127, "BackpropFilter-op1"),
    (128, "BiasAddGrad-op4"),
    (131, _NONE),
    (132, "ReluGrad-op4"),
    (136, "conv3.*BackpropInput"),
    (141, "conv3.*BackpropFilter"),
    (142, "BiasAddGrad-op5"),
    (145, _NONE),
    (149, "MaxPoolGrad-op1"),
    (150, "ReluGrad-op5"),
    (154, "conv2.*BackpropInput"),
    (159, "conv2.*BackpropFilter"),
    (160, "BiasAddGrad-op6"),
    (163, _NONE),
    (167, "MaxPoolGrad-op2"),
    (168, "ReluGrad-op6"),
    (173, "conv1.*BackpropFilter"),
    (174, "BiasAddGrad-op7"),
    (186, _NONE),
    (190, "optimizer-Momentum"),
)


def alexnet_plan(folder: Path) -> Plan:
    """The plan of the training step of `memplan.models.samples` as MindSpore exports it; `folder` is scratch."""
    path = folder / "alexnet_train.mindir"
    path.write_bytes(gzip.decompress((RECORDED / "alexnet_train.mindir.gz").read_bytes()))
    return memplan.plan(path, chip="910B2")


def alexnet_kernels(shared: Path) -> Kernels:
    """The kernels of rank 0."""
    kernels = memplan.open_profile(shared / "profiles/alexnet-ddp-2rank/text/level2/rank0_ascend_pt").rank(0).kernels()
    assert kernels is not None
    return kernels


def alexnet_outcome(plan: Plan, kernels: Kernels, found: Alignment) -> Outcome:
    """How an alignment does on what computes; exchanges between ranks aside, which a plan of one rank has not."""
    right, chance, times = [], [], []
    names, chances = named_matches(plan, found), claimed_chance(found)
    for kernel, truth in enumerate(_truths()):
        if kernels.type[kernel].startswith("hcom"):
            continue
        name = names[kernel]
        right.append(name.startswith("-") if truth == _NONE else bool(re.search(truth, name)))
        chance.append(chances[kernel])
        times.append(int(kernels.duration_ns[kernel]))
    return Outcome(right, chance, times)


def _truths() -> Iterator[str]:
    begin = 0
    for last, truth in _STRETCHES:
        yield from [truth] * (last + 1 - begin)
        begin = last + 1
