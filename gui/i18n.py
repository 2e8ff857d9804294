"""
The window's words in other languages, from catalogues in `data/<language>.json`; English is in the code.

What errors say, of any part of memplan that the window uses, is in `data/<language>_errors.json`, what plans say of
themselves, which they hold as text, in `data/<language>_notes.json`, and what reports say in one text with its figures
in `data/<language>_reports.json`.
"""

from __future__ import annotations

from collections.abc import Mapping

from PySide6.QtCore import QCoreApplication, QLibraryInfo, QLocale, QObject, QTranslator

from memplan.core.resources import table
from memplan.core.sentence import Text

LANGUAGES: Mapping[str, str] = {"en": "English", "zh": "中文"}


def tr(text: str) -> str:
    """`text` in the window's language; `text` itself where the catalogue lacks it."""
    return QCoreApplication.translate("memplan", text)


def say(text: Text) -> str:
    """A sentence in the window's language; a plain string is a name or a figure and stays as it is."""
    return text if isinstance(text, str) else text.said(tr)


def say_word(text: Text) -> str:
    """The same where plain strings are words of a report: those that the catalogue has are translated too."""
    return tr(text) if isinstance(text, str) else text.said(tr)


def spoken() -> str:
    """The code of the language that the running application speaks."""
    application = QCoreApplication.instance()
    found = application.findChildren(CatalogueTranslator) if application is not None else []
    return found[-1].code if found else "en"


def catalogue(language: str) -> dict[str, str]:
    """English text to text in `language`; empty for English."""
    if language == "en" or language not in LANGUAGES:
        return {}
    return {
        **table("memplan.gui", f"data/{language}.json"),
        **table("memplan.gui", f"data/{language}_errors.json"),
        **table("memplan.gui", f"data/{language}_notes.json"),
        **table("memplan.gui", f"data/{language}_reports.json"),
    }


class CatalogueTranslator(QTranslator):
    """A Qt translator that looks texts up in one of memplan's catalogues."""

    def __init__(self, language: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.code = language
        self._words = catalogue(language)

    def isEmpty(self) -> bool:
        """Whether there is nothing to look up."""
        return not self._words

    def translate(self, context: str, text: str, disambiguation: str | None = None, n: int = -1) -> str | None:  # noqa: ARG002 - Qt's own signature
        """The catalogue's text, or `None` to let Qt ask the next translator."""
        return self._words.get(text)


class QtTranslator(QTranslator):
    """Qt's own translation of its buttons and dialogs, where this installation of Qt has it."""

    def __init__(self, language: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        if language != "en":
            self.load(QLocale(language), "qtbase", "_", QLibraryInfo.path(QLibraryInfo.LibraryPath.TranslationsPath))


def system_language() -> str:
    """The catalogue that suits the system's locale."""
    return "zh" if QLocale.system().language() == QLocale.Language.Chinese else "en"


def choose_language(code: str) -> None:
    """Translate what the running application says from now on into the language `code`."""
    application = QCoreApplication.instance()
    if application is None:
        return
    for kind in (CatalogueTranslator, QtTranslator):
        for old in application.findChildren(kind):
            application.removeTranslator(old)
            old.deleteLater()
        application.installTranslator(kind(code, application))
