"""Attention kernels: the pairs of queries and keys that meet, how they are dealt to cores, and what that takes."""

from memplan.cost.attention.attention_problem import AttentionProblem
from memplan.cost.attention.block_time import SLICE, AttentionTime, attention_time
from memplan.cost.attention.key_walks import Walk, dealt

__all__ = ["SLICE", "AttentionProblem", "AttentionTime", "Walk", "attention_time", "dealt"]
