"""The overview's section on outlier tokens, from what `infoscope outliers` left in the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from infoscope.errors import InfoscopeError
from infoscope.outliers.record import OutlierRecord
from infoscope.outliers.result import FILE
from infoscope.outliers.tables import BLOCKS, NORMS, POSITIONS
from infoscope.report.outliers import norm_chart, place_chart, share_chart
from infoscope.storage.run import Run
from infoscope.storage.schema import read_table
from infoscope.storage.seal import read_whole
from infoscope.storage.typed import from_json


@dataclass(frozen=True)
class OutlierSection:
    """What the section prints.

    Attributes:
        record: ``outliers.json``.
        charts: a drawing and its caption each.
    """

    record: dict[str, Any]
    charts: list[tuple[Markup, str]]


def outlier_section(run: Run) -> OutlierSection | None:
    """The section, or None where no analysis of outlier tokens is in the run.

    Raises:
        InfoscopeError: there is one that cannot be read.
    """
    folder = run.path / "outliers"
    if not (folder / FILE).is_file():
        return None
    again = "restore it, or run `infoscope outliers` again"
    record = read_whole(folder / FILE, again)
    try:
        from_json(OutlierRecord, record, other_entries=True, undefined=True)
    except ValueError as error:
        raise InfoscopeError(f"{folder / FILE} is no record of outlier tokens ({error}); {again}") from error
    model = record["model"]
    limits = {"patch": model["grid"] ** 2}
    blocks = read_table(folder / "blocks.parquet", BLOCKS)
    norms = read_table(folder / "norms.parquet", NORMS)
    positions = read_table(folder / "positions.parquet", POSITIONS, limits=limits, key=("block", "patch"))
    if model["block"] not in positions["block"] or not set(norms["block"]) <= set(blocks["block"]):
        raise InfoscopeError(f"{folder / 'positions.parquet'} is not of the blocks of {FILE}; {again}")
    kind = "outlier tokens" if record["presence"]["kind"] == "outlier" else "the tail"
    places = place_chart(positions, model["block"], model["grid"], record["sample"], kind)
    charts = [
        (share_chart(blocks), "Share of the patch tokens above each cutoff, by block. Dashed: the share above 3 times "
         "the median from which a block counts as having outlier tokens."),
        (norm_chart(norms, blocks), "Norms of the patch tokens at each block, in multiples of its median; darker is "
         "more tokens. Dashed: 3 times the median."),
        (places, f"How often each patch of the full view is of {kind} at block {model['block']}."),
    ]  # fmt: skip
    return OutlierSection(record, [(Markup(drawing), caption) for drawing, caption in charts])
