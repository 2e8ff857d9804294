"""`memplan chips`: the chip database with the source of every figure."""

from __future__ import annotations

from typing import Annotated

import typer

from memplan.cli.reporting import reporting
from memplan.reports.report import Report


@reporting
def command(
    name: Annotated[str | None, typer.Argument(help="Chip or product, such as 910B3, 910_9382 or 910C.")] = None,
) -> Report:
    """List the known chips, or show one with every figure's source and what other sources say."""
    from memplan.hardware import alias, chip, chips
    from memplan.reports.chip_report import chip_report, chips_report

    if name is None:
        return chips_report(chips())
    found, product = chip(name), alias(name)
    return chip_report(found, [] if product is None else [f"{product.name}: {product.note} ({product.source})"])
