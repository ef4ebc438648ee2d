"""What ``infoscope outliers`` prints."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from rich.table import Table

from infoscope.analyses.outliers.record import OutlierFeatures, OutlierRecord, Probes
from infoscope.analyses.outliers.result import OutlierResult
from infoscope.cli.output import cell, console, plain_table, print_rows

CUTOFFS = {"std": "mean + 3 std", "value": "fixed", "percentile": "98 %", "valley": "valley"}
MASKS = {
    "outlier": "{kind} tokens",
    "next": "as many of the highest-norm others",
    "random": "as many others, drawn in each crop",
    "complement": "all others (fill the grid: cannot move)",
}


def print_outliers(result: OutlierResult, out: Path | None) -> None:
    """Print what was found, in the order of the analysis."""
    record = result.record
    kind = "outlier" if record.presence.kind == "outlier" else "tail"
    cut, model = record.cutoff, record.model
    print_rows(
        [
            ("model", f"{model.name} ({model.family}), block {model.block}, {model.grid} x {model.grid} patches"),
            (
                "images",
                f"{record.images.source}, {record.sample:,} of {record.images.count:,}; {record.tokens:,} tokens",
            ),
            ("found", record.presence.sentence),
            *[("note", note) for note in (*record.images.notes, *record.notes)],
            (
                "cutoff",
                f"{CUTOFFS[cut.used]}: {cut.threshold:.2f} at block {model.block}, {cut.tokens:,} {kind} tokens "
                f"({cut.share:.2%}) in {cut.images:,} images",
            ),
            ("places", _places(record)),
        ]
    )
    terminal = console()
    terminal.print(_blocks(result.blocks))
    terminal.print(_stability(record, kind))
    followed = record.stability
    if followed.on_pixels is not None and followed.at_place is not None:
        print_rows(
            [
                (
                    "shift",
                    f"of {followed.tokens:,} {kind} tokens on the overlap in the first crop, {followed.on_pixels:.0%} "
                    f"are on the same pixels in the second, {followed.at_place:.0%} at the same place of it",
                )
            ]
        )
    if any((record.probes.position_outlier, record.probes.pixels_outlier, record.probes.labels_outlier)):
        terminal.print(_probes(record.probes, kind))
    if record.groups is not None:
        terminal.print(_groups(record, kind))
        correlation = record.groups.cds_rank_correlation
        if correlation is not None:
            print_rows(
                [
                    (
                        "rank",
                        f"CDS and a feature's preference for {kind} tokens correlate by {correlation:+.2f} "
                        f"(Spearman, {record.groups.features:,} features)",
                    )
                ]
            )
        if (theirs := record.groups.on_outliers) is not None and theirs.features:
            terminal.print(_told(theirs, kind))
        elif theirs is not None:
            print_rows([("features", f"none has more than half of its activation on {kind} tokens")])
    for note in record.probes.notes:
        print(f"no probe of {note}")
    if out is not None:
        print(f"written: {out}")


def _places(record: OutlierRecord) -> str:
    places = record.places
    if places.likeliest is None or places.likeliest_share is None:
        return "no token is above the cutoff"
    row, column = divmod(places.likeliest, record.model.grid)
    return (
        f"on {places.patches} of {places.cells} patches; {places.likeliest_share:.1%} on row {row}, column {column}; "
        f"border {places.border_share:.1%} (evenly: {places.border_even:.1%}), "
        f"corners {places.corner_share:.1%} ({places.corner_even:.1%})"
    )


def _blocks(blocks: pl.DataFrame) -> Table:
    """Norms and shares by block."""
    names = [name for name in CUTOFFS if blocks[f"share_{name}"].count()]
    has_special, has_registers = blocks["special_norm"].count() > 0, blocks["register_norm"].count() > 0
    heads = ["block", "median", "longest / median", "> 3 x median", *(CUTOFFS[name] for name in names)]
    heads += [head for head, has in (("CLS", has_special), ("registers", has_registers)) if has]
    table = plain_table("Patch-token norms by block, before the final norm", heads, left=0)
    for row in blocks.iter_rows(named=True):
        cells = [
            f"{row['block']}",
            f"{row['median']:.2f}",
            f"{row['longest'] / row['median']:.2f}" if row["median"] else "",
            f"{row['long_share']:.3%}" + (" present" if row["present"] else ""),
            *(cell(row[f"share_{name}"], ".2%") for name in names),
        ]
        cells += [f"{row['special_norm']:.2f}"] if has_special else []
        cells += [f"{row['register_norm']:.2f}"] if has_registers else []
        table.add_row(*cells)
    return table


def _stability(record: OutlierRecord, kind: str) -> Table:
    """The masks' distances."""
    found = record.stability
    size = "" if found.size is None else f", {found.size:.1f} tokens a mask"
    vanished = "" if found.vanished is None else f"; gone in one crop: {found.vanished:.0%}"
    table = plain_table(
        f"EMD of masks between the crops, share of D ({found.pairs:,} images{size}{vanished})",
        ("mask", "EMD", "s.e.", "of chance", f"below the {kind} mask's", "s.e.", "images"),
    )
    chance = next(mask.mean for mask in found.masks if mask.mask == "random")
    for mask in found.masks:
        table.add_row(
            MASKS[mask.mask].format(kind=kind),
            cell(mask.mean),
            cell(mask.error),
            f"{mask.mean / chance:.0%}" if mask.mean is not None and chance else "",
            cell(mask.below_outlier),
            cell(mask.below_outlier_error),
            f"{mask.pairs:,}",
        )
    return table


def _probes(probes: Probes, kind: str) -> Table:
    """What tokens carry."""
    heads = ("probe", f"{kind} tokens", "normal tokens", "blind", "CLS", "tokens")
    table = plain_table("Linear probes, on held-out images", heads)
    place, usual = probes.position_outlier, probes.position_normal
    if place and usual:
        table.add_row("position, R2", f"{place.r2:.3f}", f"{usual.r2:.3f}", "0", "", f"{place.tokens:,}")
        table.add_row(
            "position, error in patches", f"{place.error:.2f}", f"{usual.error:.2f}", f"{place.baseline_error:.2f}"
        )
        table.add_row("position, top-1", f"{place.top1:.1%}", f"{usual.top1:.1%}", f"{place.baseline_top1:.1%}")
    pixels, others = probes.pixels_outlier, probes.pixels_normal
    if pixels and others:
        table.add_row("pixels, R2", f"{pixels.r2:.3f}", f"{others.r2:.3f}", "0", "", f"{pixels.tokens:,}")
        blind = f"{pixels.baseline_rmse:.1f} / {others.baseline_rmse:.1f}"
        table.add_row("pixels, error in levels", f"{pixels.rmse:.1f}", f"{others.rmse:.1f}", blind)
        table.add_row("mean colour, R2", f"{pixels.colour_r2:.3f}", f"{others.colour_r2:.3f}", "0")
    label, ordinary, special = probes.labels_outlier, probes.labels_normal, probes.labels_special
    if label and ordinary:
        table.add_row(
            f"label of {label.labels}, top-1",
            f"{label.top1:.1%}",
            f"{ordinary.top1:.1%}",
            f"{label.baseline_top1:.1%}",
            f"{special.top1:.1%}" if special else "",
            f"{label.tokens:,}",
        )
    return table


def _told(found: OutlierFeatures, kind: str) -> Table:
    """The features of outlier tokens, and what tells them from the others."""
    classes = ", ".join(f"{count:,} {name}" for name, count in found.classes.items())
    table = plain_table(
        f"Features with more than half of their activation on {kind} tokens: {len(found.features):,} ({classes})",
        ("measure", "AUC", "have it", "median", "of the others"),
    )
    for told in found.told:
        table.add_row(
            told.label,
            cell(told.auc, ".3f"),
            f"{told.features:,}",
            cell(told.median, ".3f"),
            cell(told.others_median, ".3f"),
        )
    return table


def _groups(record: OutlierRecord, kind: str) -> Table:
    """Feature groups on both kinds of tokens."""
    table = plain_table(
        f"Sum of a feature group's codes on a token, mean over {kind} and over normal tokens",
        ("group", "features", f"{kind} tokens", "normal tokens", f"share, {kind}", "share, normal"),
    )
    assert record.groups is not None
    for group in record.groups.groups:
        table.add_row(
            group.name,
            f"{group.features:,}",
            cell(group.outlier, ".2f"),
            cell(group.normal, ".2f"),
            cell(group.outlier_share, ".1%"),
            cell(group.normal_share, ".1%"),
        )
    return table
