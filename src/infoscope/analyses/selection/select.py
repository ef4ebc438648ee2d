"""`select_features`: which features a task can do without, by removing more and more of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64

from infoscope.analyses.probes.config import ProbeConfig
from infoscope.analyses.probes.probe import make_record, plan_probe, prepare
from infoscope.analyses.probes.result import difference_interval
from infoscope.analyses.probes.task import Scored, Task
from infoscope.analyses.probes.variant_scores import score_variants
from infoscope.analyses.removal.config import RemovalConfig
from infoscope.analyses.removal.energy import Energies
from infoscope.analyses.removal.groups import FeatureGroup, matched_groups, quantile_group
from infoscope.analyses.removal.variants import Variant
from infoscope.analyses.selection.config import End, SelectConfig
from infoscope.analyses.selection.result import STEPS, Choice, Selection
from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.measurement.identity import say_other_images
from infoscope.measurement.shared_images import compare_images
from infoscope.options import Match
from infoscope.runtime.columns import make_table
from infoscope.runtime.execution import Execution, run_here
from infoscope.runtime.progress import Clock
from infoscope.runtime.run import PARTIALS, Run


@dataclass(frozen=True)
class Step:
    """One set of features that is tried.

    Attributes:
        variant: the model without the set.
        end: the end of the column that the set is from; None where nothing is removed.
        share: its share of the ordered features.
        match: what a random set matches; None for the set itself.
    """

    variant: Variant
    end: End | None
    share: float
    match: Match | None


def list_steps(
    run: Run, mass: Float64[np.ndarray, " feature"], config: SelectConfig, removal: RemovalConfig
) -> list[Step]:
    """All sets to try, the untouched model first.

    Args:
        run: the run that measured the features.
        mass: activation mass of every feature, for the random sets.
        config: which sets.
        removal: how they are removed, at one site.

    Raises:
        InfoscopeError: there is no such column, it is known for too few features, or the removal has two sites.
    """
    if len(removal.sites) != 1:
        raise InfoscopeError("a selection is made at one site: give --sites rerun or --sites site")
    site = removal.sites[0]
    steps = [Step(Variant("untouched", site=site), None, 0.0, None)]

    def add(group: FeatureGroup, end: End, share: float, match: Match | None = None, draw: int | None = None) -> None:
        variant = Variant(f"minus {group.name}", group, removal.method, removal.replacement, site, draw)
        steps.append(Step(variant, end, share, match))

    for end, share, group in ordered_sets(run, config):
        add(group, end, share)
        if not config.random_draws or not (mass[group.features] > 0).any():
            continue
        for match in config.match:
            for draw, drawn in enumerate(matched_groups(group, mass, match, config.random_draws, config.seed), 1):
                add(drawn, end, share, match, draw)
    return steps


def ordered_sets(run: Run, config: SelectConfig) -> Iterator[tuple[End, float, FeatureGroup]]:
    """The sets from either end of the column, without random ones: the end, the share and the features of each.

    Args:
        run: the run that measured the features.
        config: which sets.

    Raises:
        InfoscopeError: there is no such column, or it is known for too few features.
    """
    for share in config.shares:
        for end in config.ends:
            between = (1 - share, 1.0) if end == "top" else (0.0, share)
            group = quantile_group(run, config.column, *between)
            if not len(group.features):
                raise InfoscopeError(
                    f"{share:g} of the features with a {config.column} in {run.path} is none: choose larger --shares"
                )
            yield end, share, FeatureGroup(f"{end} {share:g} by {config.column}", group.kind, group.features)


def select_features(
    run: Run,
    backbone: Backbone,
    sae: SparseAutoencoder,
    task: Task,
    config: SelectConfig | None = None,
    probe: ProbeConfig | None = None,
    removal: RemovalConfig | None = None,
    *,
    out: Path | str,
    execution: Execution | None = None,
    command: str = "infoscope.select_features",
    **options: Any,
) -> Selection:
    """Remove features from either end of a column in steps, and find the set whose removal serves a task best.

    The set is chosen by the score on the validation split or, where there is none, on images held out of the training
    split; removing nothing is one of the choices. Its test score is reported beside that of the unedited model. At each
    step, random sets of equal size and of equal activation mass show what removing that much does in itself.

    Args:
        run: the run that measured the features.
        backbone: its model.
        sae: its SAE.
        task: the task: `infoscope.classification_task`, `segmentation_task` or `depth_task`.
        config: which sets are tried.
        probe: how features are extracted and probed.
        removal: how features are removed; its random draws are not used.
        out: the folder to write. Finished variants are kept in it, and the same call resumes there.
        execution: how the passes run; it changes memory and speed, not the result.
        command: what the record names as the command.
        **options: options of ``execution`` by name, such as ``batch_size=4``; they override its own.

    Raises:
        InfoscopeError: as for `infoscope.probe_groups`, or there is no such column.
    """
    execution = run_here(execution, options)
    config, out = config or SelectConfig(), Path(out)
    probe = replace(probe or ProbeConfig(), baselines=False)
    removal = replace(removal or RemovalConfig(), random_draws=config.random_draws, random_seed=config.seed)
    if removal.ladder:
        raise InfoscopeError("a selection has random sets and no ladder: leave ladder out, and give the set to a probe")
    # Before anything is read or written, since it refuses columns and shares that give no sets.
    sets = [group.features.tolist() for _, _, group in ordered_sets(run, config)]
    clock = Clock()
    watched = task.watch()
    say_other_images(run, watched.images["train"])
    task = watched.task
    with clock("labels"):
        labels = task.check()
    identity = plan_probe(run, backbone, sae, watched, labels, (), probe, removal)
    watched.claim(out, identity | {"select": asdict(config), "sets": sets})
    with clock("comparing"):
        shared = compare_images(run, sae, watched.images["test"])
    with clock("codes"):
        prepared = prepare(run, backbone, sae, task, probe, removal.random_seed, execution)
    mass = prepared.statistics.mass
    steps = list_steps(run, mass, config, removal)
    with clock("variants"):
        scored, skipped = score_variants(
            prepared.edited,
            task,
            [step.variant for step in steps],
            probe,
            out / PARTIALS,
            prepared.resize,
            execution,
        )
    watched.check()
    record = make_record(
        run,
        prepared,
        task,
        probe,
        removal,
        scored,
        skipped,
        (),
        labels=labels,
        shared=shared,
        command=command,
        timings=clock.seconds,
    )
    selection = Selection(
        choose(steps, scored, task.higher_is_better, config.seed),
        steps_table(steps, scored, mass, task.metric, prepared.energies),
        record,
        asdict(config),
    )
    selection.save(out)
    return selection


def choose(steps: Sequence[Step], scored: Sequence[Scored], higher_is_better: bool, seed: int = 0) -> Choice:
    """The best set on the validation split, random ones excluded; of equally good ones, the one that removes least.

    Args:
        steps: the sets, the untouched model first.
        scored: their scores, in the same order.
        higher_is_better: whether higher scores are better.
        seed: seed of the bootstrap.
    """
    sign = 1 if higher_is_better else -1
    own = [number for number, step in enumerate(steps) if step.match is None]

    def removed(number: int) -> list[int]:
        group = steps[number].variant.group
        return [] if group is None else group.features.tolist()

    best = max(own, key=lambda number: (sign * scored[number].score.validation, -len(removed(number))))
    chosen, base = scored[best].score, scored[0].score
    metric = next(iter(chosen.test))
    # Where removing nothing is best there is no difference.
    low, high = difference_interval(chosen, base, seed) if best else (None, None)
    return Choice(
        name=steps[best].variant.name,
        end=steps[best].end,
        share=steps[best].share,
        removed=removed(best),
        validation=chosen.validation,
        test=chosen.test[metric],
        validation_untouched=base.validation,
        test_untouched=base.test[metric],
        difference_lower=low,
        difference_upper=high,
    )


def steps_table(
    steps: Sequence[Step],
    scored: Sequence[Scored],
    mass: Float64[np.ndarray, " feature"],
    metric: str,
    energies: Energies | None = None,
) -> pl.DataFrame:
    """The table of all sets and their scores, with the columns of `STEPS`."""
    rows = []
    for step, each in zip(steps, scored, strict=True):
        group = step.variant.group
        rows.append(
            {
                "end": step.end,
                "share": step.share,
                "match": step.match,
                "draw": step.variant.draw,
                "features": 0 if group is None else len(group.features),
                "mass": step.variant.mass_share(mass),
                **({} if energies is None else energies.columns(step.variant)),
                "validation": each.score.validation,
                "test": each.score.test[metric],
            }
        )
    return make_table(STEPS, rows)
