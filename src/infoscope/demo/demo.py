"""`run_demo`: every step on the bundled things, from measuring to the page."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from infoscope.analyses.outliers.measure import measure_outliers
from infoscope.analyses.outliers.result import OutlierResult
from infoscope.analyses.removal.config import RemovalConfig
from infoscope.analyses.removal.groups import ON_OUTLIERS, named_group
from infoscope.analyses.removal.statistics import read_statistics
from infoscope.analyses.removal.variants import plan_variants
from infoscope.analyses.zeroshot.embeddings import ClassEmbeddings, read_embeddings
from infoscope.analyses.zeroshot.measure import measure_zeroshot
from infoscope.backbones.backbone import Backbone
from infoscope.backbones.loading import load_backbone
from infoscope.demo.bundle import Bundle, bundled
from infoscope.demo.words import say_fit, say_found, say_inputs, say_lost, say_outliers, say_split
from infoscope.dictionaries.loading import load_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.folder import FileSource, FolderSource
from infoscope.images.source import ImageSource, spread_evenly
from infoscope.images.watched import watch
from infoscope.measurement.measure import measure_scope
from infoscope.measurement.summary import partition_of
from infoscope.runtime.run import Run, open_run
from infoscope.views.report.outliers import write_figures
from infoscope.views.report.page import write_report

REMOVED = ("high-CDS", "low-CDS", ON_OUTLIERS)
OUTLIERS_FOLDER = "outliers"
# Our choice: enough to see whether a group differs from any features like it; each draw is a run of the last blocks.
RANDOM_DRAWS = 3
# A feature has its sixteen strongest photographs, and a score needs eight of them.
LEAST_PHOTOGRAPHS = 16
# Of the crops that are measured, as many test. Where fewer are measured, fewer test, and the demo takes less time.
TESTED_SHARE = 0.5


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes:
        run: the run.
        page: the report's first page.
        outliers: the model's outlier tokens, and which features are theirs.
        variants: what the model makes of photographs that were not measured, untouched and with feature groups removed,
            one row a variant; columns in `infoscope.analyses.zeroshot.result.VARIANTS`. None where there were no groups
            to remove.
    """

    run: Run
    page: Path
    outliers: OutlierResult
    variants: pl.DataFrame | None


def run_demo(
    out: Path | str,
    *,
    photographs: int | None = None,
    tell: Callable[[str], None] = print,
    command: str = "infoscope.run_demo",
) -> DemoResult:
    """Measure the bundled SAE on the bundled photographs, look for outlier tokens, remove groups, and write the report.

    Nothing is fetched. Where ``out`` holds the same run already, it is read and only removed from and shown again.

    Args:
        out: the run directory to write.
        photographs: how many crops are measured, evenly spread over those that are bundled for it; all by default.
        tell: is given each line that says what happens; a stage's title comes after an empty line.
        command: how the demo was asked for, for the record.

    Raises:
        InfoscopeError: there are too few photographs, this installation has no bundle, or ``out`` cannot be written or
            is another run's.
    """
    bundle, out = bundled(), Path(out)
    images = watch(_photographs(bundle, photographs))
    tests = watch(_test_photographs(bundle, len(images)))
    sae = load_sae(bundle.sae)
    backbone = load_backbone(bundle.model, _block(sae), device="cpu")
    tell("\nWhat is measured")
    for line in say_inputs(backbone, sae, images, tests):
        tell(line)
    tell("\nMeasuring how far each feature's map moves")
    measure_scope(backbone, sae, images, out=out, command=command)
    run = open_run(out)
    tell(say_fit(run))
    tell("\nSplitting the features into low-CDS and high-CDS")
    for line in say_split(run):
        tell(line)
    tell("\nLooking for outlier tokens")
    outliers = _look_for_outliers(run, backbone, sae, images, command)
    for line in say_outliers(outliers):
        tell(line)
    variants = None
    if partition_of(run) is not None:
        tell("\nRemoving groups of features")
        subjects = read_embeddings(bundle.subjects)
        variants = _remove(run, backbone, sae, images, tests, subjects, command)
        for line in say_lost(variants, len(subjects.classes)):
            tell(line)
    tell("\nWriting the report")
    # With the other charts, since what draws them takes 80 MiB from its first chart on.
    write_figures(outliers, run.path / OUTLIERS_FOLDER)
    page = write_report(run, images, sae=sae)
    for line in say_found(run, page, bundle):
        tell(line)
    return DemoResult(run, page, outliers, variants)


def _block(sae: SparseAutoencoder) -> int:
    return int((sae.site or {})["block"])


def _photographs(bundle: Bundle, wanted: int | None) -> FileSource:
    source = FolderSource(bundle.photographs)
    if wanted is None:
        return source
    if not LEAST_PHOTOGRAPHS <= wanted <= len(source):
        raise InfoscopeError(
            f"--photographs {wanted} is out of range: choose {LEAST_PHOTOGRAPHS} to {len(source)}, which is all"
        )
    return source.subset(sorted(spread_evenly(len(source), wanted)))


def _test_photographs(bundle: Bundle, measured: int) -> FileSource:
    """Crops of other photographs than are measured: two crops of one photograph share much of what they show."""
    source = FolderSource(bundle.test_photographs)
    wanted = min(len(source), round(TESTED_SHARE * measured))
    return source.subset(sorted(spread_evenly(len(source), wanted)))


def _look_for_outliers(
    run: Run, backbone: Backbone, sae: SparseAutoencoder, images: ImageSource, command: str
) -> OutlierResult:
    """What `infoscope outliers` writes into the run; the norms have a valley, which then is the natural cutoff."""
    # Without probes of what tokens carry: crops of eight photographs teach none, and scikit-learn takes 100 MiB.
    return measure_outliers(
        backbone,
        images,
        run=run,
        sae=sae,
        cutoff="valley",
        probe_tokens=0,
        out=run.path / OUTLIERS_FOLDER,
        command=command,
    )


def _remove(
    run: Run,
    backbone: Backbone,
    sae: SparseAutoencoder,
    images: ImageSource,
    tests: ImageSource,
    subjects: ClassEmbeddings,
    command: str,
) -> pl.DataFrame:
    """What the model takes the test photographs for, with and without each group of its features."""
    # No code is replaced by that of another photograph, so no photograph is kept for it.
    statistics = read_statistics(backbone, sae, images, donors=1, resize=run.manifest.options["resize"])
    groups = []
    for name in REMOVED:
        with suppress(InfoscopeError):  # a group without features, or no outlier tokens
            groups.append(named_group(run, name))
    variants = plan_variants(groups, statistics.mass, RemovalConfig(random_draws=RANDOM_DRAWS))
    result = measure_zeroshot(
        backbone,
        sae,
        tests,
        "folder",
        subjects,
        variants,
        run=run,
        statistics=statistics,
        out=run.path / "zeroshot",
        command=command,
    )
    return result.variants
