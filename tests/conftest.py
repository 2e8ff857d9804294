"""Fixtures shared by all tests, and a loud word about tests that a clone alone can't run."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no fault of what is tested: no example has a time to keep to.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
LEFT_OUT = "the shared data folder is not beside the project"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real profiles, benchmark instances and configs beside the project; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(LEFT_OUT)
    return SHARED


@pytest.fixture(scope="session")
def published_configs(shared_data: Path) -> list[Path]:
    """Every published config at hand."""
    return sorted((shared_data / "configs").glob("*.json"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were left out for want of the shared data, and what they would have shown."""
    skipped = [report for report in terminalreporter.stats.get("skipped", ()) if LEFT_OUT in str(report.longrepr)]
    if not skipped:
        return
    folders: dict[str, int] = {}
    for report in skipped:
        folder = "/".join(report.nodeid.split("::")[0].split("/")[:2])
        folders[folder] = folders.get(folder, 0) + 1
    terminalreporter.section(f"{len(skipped)} TESTS LEFT OUT", sep="=", yellow=True, bold=True)
    terminalreporter.write_line(
        f"They check memplan against real profiles, published configs and benchmark instances, which are not part of "
        f"the repository and are looked for in {SHARED}. What ran used excerpts made for the tests."
    )
    for folder, count in sorted(folders.items()):
        terminalreporter.write_line(f"  {count:4} in {folder}")
