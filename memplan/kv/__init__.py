"""KV caches of served language models: what one token costs, what a die has left, how many sequences fit."""

from memplan.kv.budget import budget
from memplan.kv.budget_parts import BudgetItem, BudgetPart, KvBudget, Memory
from memplan.kv.engine import Engine
from memplan.kv.engine_files import engine, engines
from memplan.kv.kept_entries import CacheOptions
from memplan.kv.logical import LogicalCache, logical_cache
from memplan.kv.pool import BlockPool, Refusal
from memplan.kv.settings import Choice, EngineSettings, ServingOptions, resolve
from memplan.kv.stage_pools import plan_cache, plan_stages
from memplan.kv.tokens import StaticMemory, TokenPools, static_share, token_pools

__all__ = [
    "BlockPool",
    "BudgetItem",
    "BudgetPart",
    "CacheOptions",
    "Choice",
    "Engine",
    "EngineSettings",
    "KvBudget",
    "LogicalCache",
    "Memory",
    "Refusal",
    "ServingOptions",
    "StaticMemory",
    "TokenPools",
    "budget",
    "engine",
    "engines",
    "logical_cache",
    "plan_cache",
    "plan_stages",
    "resolve",
    "static_share",
    "token_pools",
]
