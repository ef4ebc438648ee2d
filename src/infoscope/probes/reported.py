"""What the paper's table is reported to say, and how a probe here differs from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from infoscope.probes.record import ProbeRecord

ReportedModel = Literal["clip-b16", "clip-l14"]

AS_REPORTED = "as reported (secondary source)"
SOURCE = "Ro, Choi, Kim, Beyond Semantics: Disentangling Information Scope in Sparse Autoencoders for CLIP (2604.05724)"

# By task, the data set and metric of its column.
COLUMNS = {
    "classification": ("ImageNet", "top-1"),
    "segmentation": ("ADE20K", "mIoU"),
    "depth": ("NYUd", "RMSE"),
}
ROWS = {"nothing": "untouched", "high-CDS": "minus high-CDS", "low-CDS": "minus low-CDS"}


@dataclass(frozen=True)
class Reported:
    """One row of the table; top-1 and mIoU in per cent, RMSE in metres."""

    model: ReportedModel
    removed: str
    classification: float
    segmentation: float
    depth: float


# docs/method.md, section 7, which knows a summary of the paper only.
TABLE = (
    Reported("clip-b16", "nothing", 74.82, 25.87, 0.8841),
    Reported("clip-b16", "high-CDS", 75.54, 26.02, 0.8616),
    Reported("clip-b16", "low-CDS", 64.86, 11.65, 0.9481),
    Reported("clip-l14", "nothing", 80.82, 26.66, 0.8029),
    Reported("clip-l14", "high-CDS", 81.28, 26.44, 0.7994),
    Reported("clip-l14", "low-CDS", 78.30, 13.89, 0.8878),
)


def reported_score(model: ReportedModel, removed: str, task: str) -> float | None:
    """A figure of the table; None where it has none.

    Args:
        model: which model.
        removed: ``nothing``, ``high-CDS`` or ``low-CDS``, or the name of the variant that is.
        task: classification, segmentation or depth.

    Example:
        >>> reported_score("clip-b16", "minus low-CDS", "segmentation")
        11.65
        >>> reported_score("clip-b16", "reconstruction", "segmentation") is None
        True
    """
    for row in TABLE:
        if row.model == model and removed in (row.removed, ROWS[row.removed]):
            value: float = getattr(row, task)
            return value
    return None


def protocol_differences(record: ProbeRecord) -> list[str]:
    """In which ways a probe differs from the paper's, as far as that is known: a sentence each."""
    recipe = record.recipe
    found = [
        f"The head here is the recipe {recipe['name']}, version {recipe['version']}; the paper's is not known. Its "
        "figures are below what published recipes give, so its head was simpler.",
        f"The SAE here is {record.dictionary.name} ({record.dictionary.features:,} features, "
        f"{record.dictionary.activation}, block {record.model.block}); the paper's own is not published.",
        f"Where the paper's edit acts and what it writes back is not known; here it is "
        f"{' and '.join(record.options['removal']['sites'])}, by {record.options['removal']['method']}, and only the "
        f"SAE's own tokens ({record.token_set}) are edited.",
        f"Pictures are made square by {record.options['resize']} and run at "
        f"{record.model.grid * record.model.patch_size} pixels, one view each; no sliding windows.",
        "The shift, the number of top images and the threshold of the partition are choices here (docs/defaults.md).",
    ]
    if record.task == "depth":
        found.append(
            "NYU Depth v2's labelled file has 795 training images; published figures are of heads trained on some "
            "24,000 frames of the raw recordings. The two cannot be compared."
        )
    return found
