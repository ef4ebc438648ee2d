"""What ``infoscope train`` says of an SAE that it has trained."""

from __future__ import annotations

import shlex
from functools import cached_property
from pathlib import Path
from typing import Any


class Trained:
    """An SAE directory that is finished, and its page, which is written here.

    Raises:
        InfoscopeError: the directory cannot be read or the page not be written.
    """

    def __init__(self, folder: Path) -> None:
        from infoscope.runtime.atomic import read_json
        from infoscope.views.report.training import write_training_page

        self.folder = folder
        self.page = write_training_page(folder)
        self._description: dict[str, Any] = read_json(folder / "sae.json")

    @cached_property
    def figures(self) -> dict[str, Any]:
        """The main figures; docs/shell.md lists the keys."""
        description = self._description
        result = description["training"]
        # A cache that another program wrote may not say.
        images = description["site"].get("images", {"source": "...", "count": 0, "skipped": []})
        held_out = result["held_out"]
        return {
            "path": self.folder,
            "page": self.page,
            "features": description["d_sae"],
            "activation": result["config"]["activation"],
            "on": "the last batch" if held_out is None else "held out",
            "tokens": None if held_out is None else held_out["tokens"],
            **{name: (held_out or result)[name] for name in ("fvu", "l0", "dead")},
            "downstream": result["downstream"],
            "mean_over_std": result["mean_over_std"],
            "images": {"source": images["source"], "count": images["count"], "skipped": len(images["skipped"])},
        }

    def show(self) -> None:
        """Print them, and what to do with the SAE."""
        from infoscope.cli.summary import name_skipped

        found, images = self.figures, self.figures["images"]
        if images["skipped"]:
            skipped = name_skipped(self._description["site"]["images"]["skipped"], self.folder / "sae.json")
            print(f"skipped {images['skipped']} of {images['count']:,} images: {skipped}")
        where = found["on"] if found["tokens"] is None else f"{found['tokens']:,} tokens held out"
        downstream = ""
        if after := found["downstream"]:
            cls = "" if after["fvu_cls"] is None else f", {after['fvu_cls']:.3f} of the CLS token"
            downstream = f"downstream, FVU {after['fvu_patches']:.3f} of the model's last patch tokens{cls}\n"
        ratio = found["mean_over_std"]
        print(
            f"{found['features']:,} features, {found['activation']}: FVU {found['fvu']:.3f}, "
            f"L0 {found['l0']:.1f}, dead {found['dead']:.1%} on {where}\n"
            f"{downstream}curves: {self.page}\n"
            f"tokens had |mean| / |std| {ratio:.2f}: {mean_means(ratio)}\n"
            f"next: infoscope measure --sae {shlex.quote(str(self.folder))} "
            f"--images {shlex.quote(images['source'])} --out ..."
        )


def mean_means(ratio: float) -> str:
    """What |mean| / |std| of the tokens says of features that die (arXiv 2605.31518).

    Example:
        >>> mean_means(0.3)
        'small; centring changes little'
    """
    if ratio < 1:
        return "small; centring changes little"
    return "uncentred, many features would die at once; the tokens were centred, so none does for that"
