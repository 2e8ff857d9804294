"""Words in pictures: said in the page's language, whatever figures and names are among them."""

from __future__ import annotations

import re

import numpy as np

from memplan.core.sentence import Sentence, Text
from memplan.reports.charts import area_chart
from memplan.reports.renderers.render_html import render_html
from memplan.reports.report import Drawing, Quantity, Report, section
from memplan.reports.step_pictures import memory_lines, rank_matrix, stacked_steps

WORDS = {
    "rank {}, step {}": "Rang {}, Schritt {}",
    "{} {}": "{}: {}",
    "computing": "Rechnen",
    "idle": "Leerlauf",
    "{} reserved": "{} belegt",
    "Rank {}: memory": "Rang {}: <Speicher>",
    "{} steps": "{} Schritte",
}


def _translated(words: str) -> str:
    return WORDS.get(words, words)


def _say(text: Text) -> str:
    return _translated(text) if isinstance(text, str) else text.said(_translated)


def _page(*drawings: Drawing) -> str:
    return render_html(Report("told", sections=(section("", *drawings),)), _say)


def test_labels_tooltips_and_titles_are_said() -> None:
    steps = [(Sentence("rank {}, step {}", (1, 7)), {"computing": 3_000_000, "idle": 1_000_000})]
    page = _page(stacked_steps(steps, title=Sentence("Rank {}: memory", (1,))))
    assert "Rang 1, Schritt 7</text>" in page
    assert "<title>Rechnen: 3.000 ms</title>" in page
    assert 'aria-label="Rang 1: &lt;Speicher&gt;"' in page
    assert "<figcaption>Rang 1: &lt;Speicher&gt;</figcaption>" in page
    assert not re.search("computing|rank|idle", page)


def test_lines_and_extents_are_said() -> None:
    times, values = np.array([0, 5], dtype=np.int64), np.array([1 << 20, 2 << 20], dtype=np.int64)
    page = _page(
        memory_lines([(Sentence("{} reserved", ("PTA",)), times, values)], (0, 10)),
        area_chart([1, 2, 3], Quantity.BYTES, across="{} steps"),
    )
    assert "PTA belegt</text>" in page
    assert "3 Schritte</text>" in page


def test_ranks_that_send_nothing_have_no_row() -> None:
    drawing = rank_matrix(range(8), {(0, target): 1e9 for target in range(1, 8)})
    texts = re.findall(r"<text[^>]*>([^<]*)", drawing.svg)
    assert [words for words in texts if "." not in words] == ["1", "2", "3", "4", "5", "6", "7", "0"]
    assert texts.count("1.0") == 7
