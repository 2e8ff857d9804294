"""Plans as what other tools read: tables, traces, settings of runtimes."""

from memplan.export.registry import EXPORTERS, Exporter, export
from memplan.export.vllm_ascend import vllm_ascend_settings

__all__ = ["EXPORTERS", "Exporter", "export", "vllm_ascend_settings"]
