"""Settings of another program, each with its reason."""

from __future__ import annotations

import shlex

from memplan.export.settings import ConsumerSettings
from memplan.export.settings_text import argument_words, setting_word
from memplan.reports.report import Column, Part, ReportSection, ReportTable, section

_COLUMNS = (Column("setting"), Column("value"), Column("why"), Column("source"))


def settings_section(settings: ConsumerSettings) -> ReportSection:
    """`settings` as a table for each file, the command line to paste, and what could not be said."""
    parts: list[Part] = []
    for file in settings.files:
        own = settings.of(file)
        rows = tuple((item.name, setting_word(item.value), item.reason, item.source) for item in own)
        parts.append(ReportTable(_COLUMNS, rows, title=file.name))
        words = argument_words(own)
        if words:
            parts.append(shlex.join(words))
    return section(f"Settings for {settings.title}", *parts, *settings.notes)
