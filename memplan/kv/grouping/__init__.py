"""Which caches share a block: the groups of vLLM's planner, by release, and those of vllm-ascend's own caches."""

from memplan.kv.grouping.cache_groups import CacheGroup, GroupRules, form_groups

__all__ = ["CacheGroup", "GroupRules", "form_groups"]
