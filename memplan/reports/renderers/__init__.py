"""Renderers of a report: text on the console, JSON, CSV, Markdown, one page of HTML."""
