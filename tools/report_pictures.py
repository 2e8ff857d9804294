#!/usr/bin/env python3
"""
Pictures of HTML reports in a browser: at two widths, light and dark, for somebody to look at.

usage: tools/report_pictures.py REPORT.html... [--to DIR]

Needs Chromium (`apt-get install chromium`); without one nothing is done. Beside taking pictures it says of each page
whether it asked for anything beyond itself, and whether anything is wider than the screen.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTHS = (1280, 500)
"""A laptop's screen, and a narrow one: a headless browser is no narrower."""
SCHEMES = {"light": "1", "dark": "0"}
"""Values of Blink's `preferredColorScheme`."""
_OUTSIDE = re.compile(r"""(?:src|href)\s*=\s*["']?(?!#|data:)[a-z]+:|url\(\s*["']?(?!#|data:)|@import""", re.IGNORECASE)
_MOST_BYTES = 3_000_000


def browser() -> str | None:
    """The path of a Chromium, or `None`."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def run_browser(program: str, page: Path, *options: str) -> str:
    """What the browser writes on its standard output when it opens `page` with `options`."""
    with tempfile.TemporaryDirectory() as profile:
        command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                   f"--user-data-dir={profile}", *options, page.resolve().as_uri()]  # fmt: skip
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    return done.stdout


def outside_references(page: Path) -> list[str]:
    """What of the text of `page` would load or link to something else."""
    return [found[0] for found in _OUTSIDE.finditer(page.read_text(encoding="utf-8"))]


def main() -> int:
    """Take the pictures; 1 where a page is too large or asks for something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path, nargs="+")
    parser.add_argument("--to", type=Path, default=Path("build/report-pictures"))
    parser.add_argument("--height", type=int, default=3000)
    given = parser.parse_args()
    program = browser()
    wrong = 0
    for report in given.reports:
        size, outside = report.stat().st_size, outside_references(report)
        wrong += size > _MOST_BYTES or bool(outside)
        print(f"{report.name}: {size / 1e6:.2f} MB, loads from elsewhere: {', '.join(outside) or 'nothing'}")
        if program is None:
            continue
        given.to.mkdir(parents=True, exist_ok=True)
        for width in WIDTHS:
            for scheme, value in SCHEMES.items():
                picture = given.to / f"{report.stem}-{width}-{scheme}.png"
                run_browser(program, report, f"--screenshot={picture.resolve()}",
                            f"--window-size={width},{given.height}",
                            f"--blink-settings=preferredColorScheme={value}")  # fmt: skip
                print(f"  {picture}")
    if program is None:
        print("no Chromium here: no pictures were taken", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
