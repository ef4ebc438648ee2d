"""``infoscope sweep``."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import tyro

from infoscope.cli.inputs import Hardware, Numbers, Untrained, check_writable, open_backbone, open_sae
from infoscope.cli.measure import MeasureFlags
from infoscope.cli.output import Answer, Output, given_command
from infoscope.errors import InfoscopeError
from infoscope.options import Reads
from infoscope.runtime.execution import Execution
from infoscope.training.config import TrainConfig

if TYPE_CHECKING:
    from infoscope.backbones.backbone import Backbone
    from infoscope.dictionaries.sae import SparseAutoencoder


@dataclass(frozen=True)
class Sweep:
    """Measure a dictionary at all blocks of a model, or at some, and compare them.

    An SAE is trained at each block, unless --dictionary or --saes say otherwise. An interrupted sweep resumes when the
    same command is given again, and takes in further --blocks.
    """

    images: str
    """The images: a folder (searched recursively), webdataset shards ('shards/*.tar'), a saved data set, parquet files
    (folder[:split]), or a data set of the hub, owner/name[:split]."""
    out: Path
    """The directory to write: block-03/sae, block-03/scope, ..., and comparison/index.html."""
    model: str | None = None
    """The model: a local directory in Hugging Face layout, or a hub id. Default: the one the --saes were trained on."""
    blocks: Numbers | None = None
    """The blocks, from 0, such as 2,5,8,11. Default: all."""
    saes: tuple[str, ...] = ()
    """SAEs that exist, each of a block of its own: directories, names that `infoscope saes` lists, or hub ids."""
    untrained: tyro.conf.OmitArgPrefixes[Untrained] = field(default_factory=Untrained)
    input_side: int | None = None
    """Pixels per side of the model's input. Default: the SAEs' own, else the model's (DINOv2: 224)."""
    revision: str | None = None
    """The model's revision on the hub."""
    train: TrainConfig = field(default_factory=TrainConfig)
    config: tyro.conf.OmitArgPrefixes[MeasureFlags] = field(default_factory=MeasureFlags)
    hardware: tyro.conf.OmitArgPrefixes[Hardware] = field(default_factory=Hardware)
    execution: tyro.conf.OmitArgPrefixes[Execution] = field(default_factory=Execution)
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "finished blocks and shards are kept; the same command resumes from them"

    def run(self) -> Answer:
        """Run the command."""
        if self.untrained.dictionary is None:
            self.untrained.refuse_alone()
        check_writable(self.out)
        from infoscope.analyses.comparison import compare_runs
        from infoscope.analyses.sweep import sweep_blocks
        from infoscope.cli.compare import print_comparison
        from infoscope.images.source import open_images
        from infoscope.views.comparison.page import write_comparison

        images = open_images(self.images)
        backbone, saes = self._from_saes() if self.saes else (self._backbone(), None)
        runs = sweep_blocks(
            backbone,
            images,
            self.out,
            self.blocks,
            saes=saes,
            dictionary=self.untrained.dictionary,
            components=self.untrained.components,
            centre=self.untrained.centre,
            train=self.train,
            config=self.config.config,
            execution=self.execution,
            command=given_command(),
        )
        if len(runs) < 2:
            one = f"one block, nothing to compare: infoscope info {shlex.quote(str(runs[0]))}"
            return Answer(lambda: print(one), lambda: {"runs": runs, "comparison": None}, {"out": self.out})
        comparison = compare_runs(runs)
        page = write_comparison(comparison, self.out / "comparison")
        return Answer(
            lambda: print_comparison(comparison, page),
            lambda: {"runs": runs, "comparison": comparison.to_json()},
            {"out": self.out, "page": page},
            comparison.warnings,
        )

    def _backbone(self) -> Backbone:
        from infoscope.dictionaries.untrained import split_kind
        from infoscope.training.untrained import reads_of

        if self.model is None:
            raise InfoscopeError("--model missing; give it, or --saes that say which model they were trained on")
        kind = "" if self.untrained.dictionary is None else split_kind(self.untrained.dictionary)[0]
        return open_backbone(self.model, 0, self.input_side, self.revision, self.hardware, reads_of(kind))

    def _from_saes(self) -> tuple[Backbone, dict[int, SparseAutoencoder]]:
        """The model that the SAEs are of, and each by its block."""
        if self.blocks is not None:
            raise InfoscopeError("--blocks does not go with --saes, which say theirs; leave it out")
        saes: dict[int, SparseAutoencoder] = {}
        for name in self.saes:
            sae = open_sae(name)
            block = (sae.site or {}).get("block")
            if not isinstance(block, int):
                raise InfoscopeError(
                    f"{name} does not say which block it was trained on; measure it alone, with --block"
                )
            if block in saes:
                raise InfoscopeError(
                    f"{name} and {saes[block].name} are both of block {block}; a sweep has one SAE a block: measure "
                    "each alone and compare the runs"
                )
            saes[block] = sae
        model = self.model or self._shared(saes, "model")
        if model is None:
            raise InfoscopeError("--model missing, and the SAEs do not say which model they were trained on; give it")
        own = self.model is None
        side = self.input_side or self._shared(saes, "input_side")
        revision = self.revision or (self._shared(saes, "revision") if own else None)
        reads: Reads = "neurons" if self._shared(saes, "reads") == "neurons" else "output"
        return open_backbone(model, next(iter(saes)), side, revision, self.hardware, reads), saes

    def _shared(self, saes: dict[int, SparseAutoencoder], key: str) -> Any:
        """What all SAEs say of their site, or None where none says."""
        said = {(sae.site or {}).get(key) for sae in saes.values()} - {None}
        if len(said) > 1:
            raise InfoscopeError(
                f"the SAEs were trained with several {key}: {', '.join(sorted(map(str, said)))}; a sweep is of one "
                f"model: leave some out{', or give --model' if key == 'model' else ''}"
            )
        return next(iter(said), None)
