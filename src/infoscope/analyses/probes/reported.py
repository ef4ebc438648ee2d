"""What the paper's table is reported to say, and how a probe here differs from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infoscope.errors import InfoscopeError
from infoscope.options import ReportedModel

if TYPE_CHECKING:
    from infoscope.analyses.probes.result import ProbeRecord

AS_REPORTED = "as reported (secondary source)"
SOURCE = "Ro, Choi, Kim, Beyond Semantics: Disentangling Information Scope in Sparse Autoencoders for CLIP (2604.05724)"


@dataclass(frozen=True)
class Published:
    """The data set of a column, as it is published.

    Attributes:
        name: what it is called.
        classes: how many it has; None for depths.
        train: images to train on; None where published figures differ in which are used.
        test: images that figures are of.
    """

    name: str
    classes: int | None
    train: int | None
    test: int


# By task. Russakovsky et al. 2015 (arXiv 1409.0575), table 2; Zhou et al. 2017, scene parsing benchmark; NYU Depth v2's
# own splits.
COLUMNS = {
    "classification": Published("ImageNet", 1000, 1_281_167, 50_000),
    "segmentation": Published("ADE20K", 150, 20_210, 2_000),
    "depth": Published("NYU Depth v2", None, None, 654),
}
# By model, its usual name and a patch's side in pixels.
MODELS: dict[ReportedModel, tuple[str, int]] = {
    "clip-b16": ("CLIP ViT-B/16", 16),
    "clip-l14": ("CLIP ViT-L/14", 14),
}
# Of NYU Depth v2's labelled file.
LABELLED_TRAIN = 795
# Our choice: with half of the frames or more a head is much the same.
LEAST_FRAMES = 12_000
# What a removed code becomes.
REPLACED = {"zero": "zero, as there", "mean": "their mean, not zero", "resampled": "another image's, not zero"}
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
            value: float | None = getattr(row, task, None)
            return value
    return None


def protocol_differences(record: ProbeRecord, model: ReportedModel) -> list[str]:
    """In which ways a probe differs from the paper's, as far as that is known: a sentence each.

    Args:
        record: the probe.
        model: the model whose row it is put beside.
    """
    recipe, removal = record.recipe, record.options["removal"]
    return [
        *_model_differences(record, model),
        *_data_differences(record),
        f"The head here is the recipe {recipe['name']}, version {recipe['version']}; the paper's is not known. Its "
        "figures are below what published recipes give, so its head was simpler.",
        f"The SAE here is {record.dictionary.name} ({record.dictionary.features:,} features, "
        f"{record.dictionary.activation}, block {record.model.block}); the paper's own is not published.",
        f"Where the paper's edit acts and what it writes back is not known; here it is "
        f"{' and '.join(removal['sites'])}, by {removal['method']}, codes become "
        f"{REPLACED[removal['replacement']]}, and only the SAE's own tokens ({record.token_set}) are edited.",
        f"Pictures are made square by {record.options['resize']} and run at "
        f"{record.model.grid * record.model.patch_size} pixels, one view each; no sliding windows.",
        _measured_on(record),
        "The shift, the number of top images and the threshold of the partition are choices here (docs/defaults.md).",
    ]


def _model_differences(record: ProbeRecord, model: ReportedModel) -> list[str]:
    name, patch = MODELS[model]
    own = record.model
    if own.family == "CLIP" and own.patch_size == patch:
        return []
    return [f"The model here is {own.name} ({own.family}, patches of {own.patch_size} pixels), not {name}."]


def _data_differences(record: ProbeRecord) -> list[str]:
    if record.task not in COLUMNS:
        return [f"The paper's table has no column of {record.task}."]
    column, data = COLUMNS[record.task], record.data
    train, test = data["splits"]["train"], data["splits"]["test"]
    classes = None if column.classes is None else len(data["classes"])
    of_classes = "" if classes is None else f"{classes:,} classes, "
    here = f"{train['source']} ({of_classes}{train['images']:,} images to train on, {test['images']:,} to test on)"
    differences = []
    if classes != column.classes or (column.classes is None and test["images"] != column.test):
        theirs = f"{column.test:,} images to test on" if column.classes is None else f"{column.classes:,} classes"
        differences.append(f"The images of {record.task} here are {here}, not {column.name}'s {theirs}.")
    elif (column.train not in (None, train["images"])) or test["images"] != column.test:
        differences.append(
            f"The images of {record.task} here are {here}, a part of {column.name} or another edition of it."
        )
    if record.task == "depth":
        count = train["images"]
        known = (
            f"NYU Depth v2's labelled file has {count} training images"
            if (count, test["images"]) == (LABELLED_TRAIN, column.test)
            else f"There are {count:,} training images of depth here"
        )
        differences.append(
            f"{known}; published figures are of heads trained on some 24,000 frames of the raw recordings."
            + (" The two cannot be compared." if count < LEAST_FRAMES else "")
        )
    return differences


def _measured_on(record: ProbeRecord) -> str:
    """The images behind the score, which the run knows."""
    from infoscope.runtime.manifest import Manifest

    try:
        images = Manifest.read(Path(record.run) / "manifest.json").images
    except InfoscopeError:
        return f"What the scope was measured on is in the run {record.run}, which cannot be read here."
    return (
        f"The scope was measured on {images.count:,} images of {images.source}; which ones the paper's was measured on "
        "is not known."
    )
