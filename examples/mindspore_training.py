"""A training script of MindSpore that plans itself: the two lines are marked."""

import os

os.environ.setdefault("GLOG_v", "3")

import mindspore
import numpy as np

import memplan
from memplan.models.samples.decoder import DecoderShape, decoder, train_step

mindspore.set_context(mode=mindspore.GRAPH_MODE)
mindspore.set_device("CPU")
shape = DecoderShape(layers=2, sequence=64, batch=2)
tokens = mindspore.Tensor(np.ones((shape.batch, shape.sequence), dtype=np.int32))
step, batch = train_step(decoder(shape), shape.vocabulary).set_train(), (tokens, tokens)

plan = memplan.plan(step, *batch, chip="910B3", hbm=8 * 2**20)  # <-
applied = plan.apply(step)  # <-

print(plan)
print(applied)
for number in range(3):
    print(f"step {number}: loss {float(step(*batch)):.4f}")
