"""Plans as what other tools read: tables, traces, settings of runtimes."""

from memplan.export.registry import EXPORTERS, Exporter, export, export_budget, find_exporter

__all__ = ["EXPORTERS", "Exporter", "export", "export_budget", "find_exporter"]
