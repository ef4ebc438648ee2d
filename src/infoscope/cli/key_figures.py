"""The main figures of a run, for the JSON documents of the commands that end with one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from infoscope.runtime.run import Run


def run_figures(run: Run) -> dict[str, Any]:
    """Counts of features, the spectrum, classes, trust and the fit; docs/shell.md lists the keys.

    Raises:
        InfoscopeError: a table of the run cannot be read.
    """
    from infoscope.measurement.controls import run_controls
    from infoscope.measurement.summary import QUANTILES, counts_of, partition_of, quantiles_of, settings_of

    manifest, partition, settings = run.manifest, partition_of(run), settings_of(run)
    counts = counts_of(run.scope, partition, settings)
    shares = dict((*QUANTILES, ("maximum", 1.0)))
    controls = run_controls(run.scope, settings.top_images)
    return {
        "features": {
            "all": counts.features,
            "scored": counts.scored,
            "unscored": counts.unscored,
            "silent": counts.silent,
            "rare": counts.rare,
            "vanishing": counts.vanishing,
            "low_cds": counts.low_cds,
            "high_cds": counts.high_cds,
        },
        "cds": {str(shares[name]): value for name, value in quantiles_of(run.scope)},
        "threshold": None if partition is None else partition.threshold,
        "modes": None if partition is None else partition.evidence.modes,
        "classes": controls.classes,
        "calibrated": controls.calibrated,
        "trust": controls.trust,
        "reliability": controls.reliability.spearman,
        "fit": manifest.fit,
        "images": {
            "source": manifest.images.source,
            "count": manifest.images.count,
            "skipped": len(manifest.images.skipped),
            "notes": manifest.images.notes,
        },
        "seconds": manifest.timings,
    }


def run_files(path: Path) -> dict[str, Path]:
    """What a measurement has written."""
    from infoscope.runtime.run import MANIFEST, PARTITION

    named = {"manifest": MANIFEST, "scope": "scope.parquet", "partition": PARTITION, "controls": "controls.json"}
    return {"out": path} | {name: path / file for name, file in named.items()}
