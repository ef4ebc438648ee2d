"""Whether a finished run, a model and an SAE belong together."""

from __future__ import annotations

from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.measurement.fit import check_width
from infoscope.storage.run import Run


def check_belongs(run: Run, backbone: Backbone, sae: SparseAutoencoder) -> None:
    """Refuse a model or an SAE that is not the one a run was measured with.

    Raises:
        InfoscopeError: naming what differs.
    """
    check_width(backbone, sae)
    manifest = run.manifest
    for what, here, there in (
        ("block", backbone.block, manifest.model.block),
        ("reads", backbone.reads, manifest.model.reads),
        ("grid", backbone.grid, manifest.model.grid),
        ("model weights", backbone.sha256, manifest.model.sha256),
        ("SAE weights", sae.sha256, manifest.dictionary.sha256),
    ):
        if here != there:
            raise InfoscopeError(f"{run.path} was measured with {what} {there}, not {here}: give the run's own")
