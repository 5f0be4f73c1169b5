"""Rows as a table of plain text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest


def format_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, align: str = "") -> str:
    r"""Format rows in columns that are as wide as their widest cell.

    A row may end early. `align` has "<" (left) or ">" (right) for each column, by default "<>>...".

    Examples
    --------
    >>> print(format_table(["arm", "clean\nROC AUC"], [["plain", "0.75"], ["standard", "-"]]))
                clean
    arm       ROC AUC
    plain        0.75
    standard        -
    """
    # The lines of headings from the last to the first, so that the shorter ones end at the rows.
    lines = [heading.split("\n")[::-1] for heading in headings]
    table = list(zip_longest(*lines, fillvalue=""))[::-1]
    table += [tuple(row) for row in rows]
    columns = list(zip_longest(*table, fillvalue=""))
    widths = [max(map(len, column)) for column in columns]
    align = align or "<".ljust(len(widths), ">")
    return "\n".join(
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=False)
        ).rstrip()
        for row in table
    )
