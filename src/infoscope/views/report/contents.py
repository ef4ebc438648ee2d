"""The report of a run: what each of its files holds, whether it is written out or asked for one by one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl

from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.source import ImageSource
from infoscope.images.views import Views
from infoscope.measurement.identity import as_measured
from infoscope.measurement.summary import Settings, extremes, most_trusted, partition_of, settings_of, views_of
from infoscope.runtime.run import Run
from infoscope.scope.classes import CLASSES
from infoscope.scope.controls import FLOORS, first_sizes
from infoscope.scope.partition import Partition
from infoscope.views.report.charts import axis_end
from infoscope.views.report.explorer import QUANTITIES, ExplorerColumn, class_codes, explorer_columns, strongest_images
from infoscope.views.report.neighbours import PATCHES_KEPT, Neighbours, by_cofiring, by_direction
from infoscope.views.report.payload import packed_column, rounded, script
from infoscope.views.report.photographs import Thumbnails, same_images
from infoscope.views.report.records import FEATURES_A_READ, Records, strongest_codes

# Our choices: some 100 kB a file, which loads at once; bars that show shape.
FEATURES_A_FILE = 64
BARS = 60
# A few of each class, since the extremes of CDS show hardly any that are diffuse or position-bound.
EACH_CLASS_SHOWN = 3
MOST_IN_STRIP = 6


@dataclass(frozen=True)
class Options:
    """How much the report shows.

    Attributes:
        features_shown: features of the lowest and of the highest CDS on the overview, each.
        gallery_images: top images on a feature's page.

    Raises:
        InfoscopeError: a number is negative.
    """

    features_shown: int = 12
    gallery_images: int = 4

    def __post_init__(self) -> None:
        for shown, what in ((self.features_shown, "features a side"), (self.gallery_images, "images a feature")):
            if shown < 0:
                raise InfoscopeError(f"cannot show {shown} {what}: choose 0 or more")


class ReportFiles:
    """The files of a run's report, by what they hold.

    Attributes:
        run: the run.
        settings: its geometry and options.
        partition: its split, or None without scores.
        options: how much is shown.
        thumbnails: the photographs.
        moved: whether the images could not be opened.
        differ: whether they could be opened, but are not those that were measured.
        directions: neighbours by decoder direction, or None.
        without_directions: why there are no such neighbours.
        without_picture: images without a photograph; filled while thumbnails are written, or by `prepare`.
    """

    def __init__(
        self,
        run: Run,
        images: ImageSource | None,
        options: Options,
        sae: SparseAutoencoder | None = None,
        without_directions: str = "the SAE was not at hand when this page was made",
    ) -> None:
        self.run, self.options = run, options
        self.settings: Settings = settings_of(run)
        self.partition: Partition | None = partition_of(run)
        matching = images if images is not None and same_images(images, run.manifest.images) else None
        self.moved, self.differ = images is None, images is not None and matching is None
        self.thumbnails = Thumbnails(None if matching is None else as_measured(run, matching), self.views)
        self.directions: Neighbours | None = None
        self.without_directions = without_directions
        if sae is not None and sae.sha256 != run.manifest.dictionary.sha256:
            self.without_directions = "the SAE at hand is not the one that was measured: its weights differ"
        elif sae is not None:
            self.directions = by_direction(sae.W_dec.detach().cpu().float().numpy())
        self.without_picture: frozenset[int] = frozenset()

    @property
    def views(self) -> Views:
        """The geometry of the crops."""
        return views_of(self.run)

    @property
    def features(self) -> int:
        """Number of features of the dictionary."""
        return self.run.scope.height

    @property
    def chunks(self) -> int:
        """Number of files that hold the features' records."""
        return -(-self.features // FEATURES_A_FILE)

    @cached_property
    def columns(self) -> list[ExplorerColumn]:
        """The explorer's columns."""
        return explorer_columns(self.run)

    @cached_property
    def cofiring(self) -> Neighbours:
        """Neighbours by the patches they fire on together."""
        cells = self.settings.grid**2
        parts = [
            strongest_codes(self.run, range(start, min(start + FEATURES_A_READ, self.features)), cells)
            for start in range(0, self.features, FEATURES_A_READ)
        ]
        feature, token, code = (np.concatenate([part[place] for part in parts]) for place in range(3))
        return by_cofiring(feature, token, code.astype(np.float32), self.features)

    @cached_property
    def featured(self) -> dict[str, list[int]]:
        """The features on the overview, by the list that shows them."""
        scope, shown = self.run.scope, self.options.features_shown
        lowest, highest = extremes(scope, shown)
        others = scope.join(pl.concat([lowest, highest]), on="feature", how="anti")
        trusted = most_trusted(others, min(EACH_CLASS_SHOWN, shown))
        if self.partition is None:
            return {}
        lists = {"lowest": lowest, "highest": highest} | {f"class-{name}": frame for name, frame in trusted.items()}
        return {name: frame["feature"].to_list() for name, frame in lists.items() if frame.height}

    @cached_property
    def records(self) -> Records:
        """What makes the features' records; first read once `without_picture` is known."""
        return Records(
            self.run,
            self.settings,
            self.options.gallery_images,
            self.without_picture,
            self.directions,
            self.cofiring,
        )

    def prepare(self) -> None:
        """Compute what the pages of all features need, before the first is requested."""
        if self.thumbnails.source is None:
            self.without_picture = frozenset(self.images_shown()["image"].to_list())
        _ = self.records

    def images_shown(self) -> pl.DataFrame:
        """The images on the report, each once, ascending: ``image``, ``image_id``."""
        shown = self.run.top_images.filter(pl.col("rank") < max(self.options.gallery_images, 1))
        return shown.select("image", "image_id").unique("image").sort("image")

    def run_script(self) -> str:
        """What every page needs to know of the run."""
        settings, partition = self.settings, self.partition
        counts = class_codes(self.run).value_counts()
        by_class = dict(counts.iter_rows())
        scored = self.run.scope["cds"].drop_nulls().to_numpy()
        upper = axis_end(scored)
        bars, _ = np.histogram(scored, BARS, (0, upper))
        return script(
            "run",
            {
                "features": self.features,
                "scored": len(scored),
                "chunk": FEATURES_A_FILE,
                "gallery": self.options.gallery_images,
                "photographs": self.thumbnails.source is not None,
                "topImages": settings.top_images,
                "minPairs": settings.min_pairs,
                "grid": settings.grid,
                "shift": settings.shift,
                "reach": self.views.reach,
                "diagonal": rounded(settings.geometry.largest),
                "metric": settings.metric,
                "images": self.run.manifest.images.read,
                "threshold": None if partition is None else partition.threshold,
                "thresholdKind": None if partition is None else partition.kind,
                "ruleVersion": self.run.manifest.rule_version,
                "classes": [{"name": name, "count": by_class.get(place, 0)} for place, name in enumerate(CLASSES)],
                "columns": [column.to_json() for column in self.columns],
                "fields": list(QUANTITIES),
                "prefixes": list(first_sizes(settings.top_images)),
                "floors": list(FLOORS),
                "histogram": {"upper": upper, "counts": bars.tolist()},
                "featured": self.featured,
                "withoutPicture": sorted(self.without_picture) if self.thumbnails.source is not None else [],
                "patchesKept": PATCHES_KEPT,
                "withoutDirections": None if self.directions else self.without_directions,
            },
        )

    def column_script(self, name: str) -> str | None:
        """A column of the explorer, or the classes, or the strongest images; None where there is no such column."""
        if name == "class":
            return script("columns/class", packed_column(class_codes(self.run)))
        if name == "image":
            return script("columns/image", packed_column(strongest_images(self.run)))
        for column in self.columns:
            if column.name == name:
                return script(f"columns/{name}", packed_column(column.values))
        return None

    def chunk_script(self, chunk: int) -> str:
        """The records of a file of features."""
        features = range(chunk * FEATURES_A_FILE, min((chunk + 1) * FEATURES_A_FILE, self.features))
        return script(f"features/{chunk}", self.records.of(features))

    def featured_script(self) -> str:
        """The records of the features on the overview, with the images that their strips show."""
        features = sorted({feature for features in self.featured.values() for feature in features})
        return script(
            "featured", replace(self.records, gallery=min(self.options.gallery_images, MOST_IN_STRIP)).of(features)
        )
