"""Step 2: the student learns what the teacher makes of each patch and of the image, and where ten class names belong.

The losses:

- *direction*: the teacher's patch tokens after two blocks, all brought to one length, each channel in units of its
  spread over normal tokens. Outlier tokens make a tenth of it.
- *norm*: the logarithm of their lengths, in units of its spread over normal tokens; a tenth likewise.
- *choice*: which patches are the teacher's outliers, as log odds; and how near each patch came to being one.
- *carried*: what outlier tokens say of the image one block after they are written, read linearly. In the teacher they
  need more than two blocks to gather it, and the student has but two.
- *image*: the cosine between the student's image embedding and the teacher's CLS token cut to its principal components.
- *class* of the photographs that have one, by the cosine between image embedding and class embedding. The class
  embeddings are learnt with the rest: there is no text model behind them.

In half of the views the outliers are where the teacher has them, so that the later blocks learn from the first step on
what to do with them; in the others they are where the student puts them. What the student makes an outlier is then to
be as the view's outliers are in the teacher; what is an outlier in the teacher alone teaches nothing.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from infoscope.backbones.loading import load_backbone
from infoscope.backbones.moved_registers import moved_neurons
from student import (
    BLOCKS,
    EMBEDDING,
    NEURONS,
    Choosing,
    normalise,
    ridge,
    start_from_teacher,
    untrained_student,
)
from views import GRID, LAST, TAUGHT, TEACHER_PATCH, unpack

OUTLIER_SHARE = 0.1
"""Of the losses of tokens. One token in a hundred is an outlier, and would have a hundredth."""
OUTLYING = 3.0
"""How many times the patches' median norm makes an outlier, as in infoscope."""
FOLLOW = 0.05
"""How fast the level follows the scores: as the mean of the last twenty batches."""
CARRYING = 5
"""The block after which outlier tokens are to say what the image is: the last whose tokens CLS still reads."""
HELD = 64
"""Photographs whose views are not trained on, to watch the training by."""
LOSSES = ("direction", "norm", "choice", "near", "carried", "image", "class")
WATCHED = (
    *(f"{what} {block}" for what in ("share", "views", "largest", "recall") for block in TAUGHT),
    "accuracy",
    *LOSSES,
)
"""Of the held out views, after each taught block: the share of patches that are outliers, of views that have one, the
largest over the median norm, and the share of the teacher's outliers that are the student's; then the classes."""


@dataclass(frozen=True)
class Distil:
    """Train the student on views that `views.py` wrote."""

    cache: Path
    """Their folder."""
    teacher: Path
    """The teacher, whose weights the student starts from."""
    out: Path
    """Where the state, the losses and at last the student are written."""
    views: int = 200_000
    """How many views are looked at in all, each about as often as any other. The learning rate ends with them."""
    batch: int = 32
    """Views to a step."""
    learning_rate: float = 1e-3
    """At its height: the length of a step, of a matrix as a share of the root mean square of its numbers."""
    warmup: int = 300
    """Steps up to it; from there it falls as a cosine to 0."""
    vector_rate: float = 5e-5
    """At its height, of biases and norms."""
    weight_decay: float = 0.01
    """Of matrices."""
    norm_weight: float = 0.01
    """Of the norms' loss."""
    choice_weight: float = 0.02
    """Of the choice's."""
    carried_weight: float = 0.1
    """Of what outlier tokens carry."""
    class_weight: float = 0.2
    """Of the classes' loss."""
    smoothing: float = 0.1
    """Of the classes."""
    outliers: float = 3.0
    """The student's to a view while it is trained, where the teacher has two: so that later blocks meet more of the
    places where it may have one. When it is written it has as many to a whole photograph as the teacher."""
    seed: int = 0
    """Of the order, the draws and the weights that do not come from the teacher."""
    checkpoint_seconds: float = 120
    """How much a stop may lose. The same command resumes there, to the same result."""

    @property
    def steps(self) -> int:
        """Batches."""
        return self.views // self.batch

    def run(self) -> None:
        """Train, or go on training."""
        self.out.mkdir(parents=True, exist_ok=True)
        data = _Data(self.cache)
        state_file = self.out / "state.pt"
        learner = _Learner(data, self)
        step, seconds, losses, held = 0, 0.0, [], []
        if state_file.exists():
            state = torch.load(state_file, weights_only=True)
            if differing := [name for name, value in self._recorded().items() if state["options"].get(name) != value]:
                raise SystemExit(
                    f"{state_file} is of a training with other {', '.join(differing)}; choose another --out"
                )
            learner.load_state_dict(state["learner"])
            step, seconds, losses, held = state["step"], state["seconds"], state["losses"], state["held"]
        if not step:
            learner.start(self.teacher, data, self.seed)
        optimiser = _optimiser(learner, self)
        if step:
            optimiser.load_state_dict(state["optimiser"])
        else:
            held.append([0, *learner.watch(data)])
            print(f"before training: {_shown(WATCHED, held[-1][1:])}", flush=True)
        last = time.monotonic()
        saved = last
        while step < self.steps:
            for group in optimiser.param_groups:
                group["lr"] = group["size"] * self._rate(step)
            random = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
            forced = torch.rand(self.batch, generator=random) < 0.5
            parts = learner.losses(data, self._places(step, data.trained), forced, self.smoothing)
            weights = {"norm": self.norm_weight, "choice": self.choice_weight, "near": self.choice_weight}
            weights |= {"carried": self.carried_weight, "class": self.class_weight}
            sum(weights.get(name, 1.0) * part for name, part in parts.items()).backward()  # type: ignore[union-attr]
            nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            learner.choosing.follow(self.outliers, FOLLOW)
            step += 1
            now = time.monotonic()
            seconds, last = seconds + now - last, now
            losses.append([step, *(float(value.detach()) for value in parts.values())])
            if step % 20 == 0:
                recent = np.mean(losses[-20:], axis=0)[1:]
                print(f"step {step:,} of {self.steps:,}  {_shown(LOSSES, recent)}  {seconds:,.0f} s", flush=True)
            if step % 100 == 0 or step == self.steps:
                held.append([step, *learner.watch(data)])
                print(f"held out: {_shown(WATCHED, held[-1][1:])}", flush=True)
                last = time.monotonic()
            if step == self.steps or now - saved > self.checkpoint_seconds:
                state = {"learner": learner.state_dict(), "optimiser": optimiser.state_dict()}
                state["options"] = self._recorded()
                temporary = state_file.with_suffix(".tmp")
                torch.save(state | {"step": step, "seconds": seconds, "losses": losses, "held": held}, temporary)
                temporary.replace(state_file)
                last = saved = time.monotonic()
        learner.settle(data, self.seed)
        held.append([step, *learner.watch(data)])
        print(f"as it is written: {_shown(WATCHED, held[-1][1:])}", flush=True)
        self._write(learner, data, losses, held, seconds)

    def _recorded(self) -> dict[str, Any]:
        """What the result depends on, beside the views and the teacher."""
        return {
            name: value
            for name, value in asdict(self).items()
            if not isinstance(value, Path) and name != "checkpoint_seconds"
        }

    def _rate(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / self.warmup
        return float(0.5 + 0.5 * np.cos(np.pi * (step - self.warmup) / (self.steps - self.warmup)))

    def _places(self, step: int, trained: Int64[np.ndarray, " view"]) -> Int64[np.ndarray, " step"]:
        """The views of a step: each epoch is an order of its own."""
        wanted = np.arange(step * self.batch, (step + 1) * self.batch)
        places = np.empty(self.batch, np.int64)
        for epoch in np.unique(wanted // len(trained)):
            order = np.random.default_rng([self.seed, 1, int(epoch)]).permutation(trained)
            inside = wanted // len(trained) == epoch
            places[inside] = order[wanted[inside] % len(trained)]
        return places

    def _write(
        self, learner: _Learner, data: _Data, losses: list[list[float]], held: list[list[float]], seconds: float
    ) -> None:
        """The student as transformers saves it, its class embeddings, the losses and what was watched."""
        student = learner.folded().half()
        student.save_pretrained(self.out / "model")
        vectors = nn.functional.normalize(learner.classes.detach(), dim=1).numpy()
        np.save(self.out / "classes.npy", vectors)
        record = {
            "folders": data.folders,
            "logit_scale": float(learner.scale.exp().detach()),
            "teacher blocks": BLOCKS,
            "outliers of the teacher, a view": data.patches,
            "parameters": sum(weight.numel() for weight in student.parameters()),
            "cached views": len(data.trained),
            "options": self._recorded(),
            "teacher sha256": hashlib.sha256((self.teacher / "model.safetensors").read_bytes()).hexdigest(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "seconds": round(seconds),
        }
        (self.out / "training.json").write_text(json.dumps(record, indent=1) + "\n")
        means = [np.mean(losses[start : start + 20], axis=0) for start in range(0, len(losses), 20)]
        lasts = [losses[min(start + 19, len(losses) - 1)][0] for start in range(0, len(losses), 20)]
        _write_table(
            self.out / "losses.csv", LOSSES, [[last, *mean[1:]] for last, mean in zip(lasts, means, strict=True)]
        )
        _write_table(self.out / "held.csv", WATCHED, held)


class _Data:
    """The views, and the teacher's tokens with their statistics."""

    def __init__(self, folder: Path) -> None:
        record = json.loads((folder / "views.json").read_text())
        self.pixels, self.tokens, self.scales, self.near = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("pixels", "tokens", "scales", "near")
        )
        self.cls = torch.from_numpy(np.load(folder / "cls.npy").astype(np.float32))
        count, views = int((folder / "done.txt").read_text()), record["views"]
        if count != len(self.pixels):
            raise SystemExit(f"{folder} has {count:,} of {len(self.pixels):,} views; let views.py go on")
        self.labels = torch.tensor(record["labels"])
        self.folders: list[str] = record["folders"]
        self.patches: int = record["patches"]
        self.values = torch.tensor(record["values"])
        self.photographs: int = count // views
        labelled = np.flatnonzero(self.labels[: self.photographs].numpy() >= 0)
        self.held = labelled[np.linspace(0, len(labelled) - 1, min(HELD, len(labelled) // 10), dtype=np.int64)]
        self.trained = np.flatnonzero(~np.isin(np.arange(count) % self.photographs, self.held))
        some = self.trained[:: max(len(self.trained) // 200, 1)]
        tokens, outliers = self.taught(some), self.outliers(some)
        norms = tokens.norm(dim=-1)
        normal = ~outliers
        self.length = torch.stack([norms[:, block][normal].median() for block in range(len(TAUGHT))])
        self.length_spread = torch.stack([norms[:, block][normal].log().std() for block in range(len(TAUGHT))])
        directions = nn.functional.normalize(tokens, dim=-1) * self.length[:, None, None]
        self.spread = torch.stack([directions[:, block][normal].std(0) for block in range(len(TAUGHT))])
        near = torch.from_numpy(self.near[some].astype(np.float32))
        self.near_mean, self.near_spread = near.mean(), near.std()
        centred = self.cls - self.cls[self.trained].mean(0)
        components = torch.linalg.svd(centred[self.trained], full_matrices=False).Vh[:EMBEDDING]
        self.image = nn.functional.normalize(centred @ components.T, dim=1)

    def taught(self, places: Int64[np.ndarray, " view"]) -> Float[Tensor, "view block patch width"]:
        """The teacher's tokens."""
        return unpack(self.tokens[places], self.scales[places])

    def outliers(self, places: Int64[np.ndarray, " view"]) -> Bool[Tensor, "view patch"]:
        """Which patches are the teacher's outliers."""
        near = torch.from_numpy(self.near[places].astype(np.float32))
        order = near.argsort(dim=1, descending=True, stable=True)
        return torch.zeros(near.shape, dtype=torch.bool).scatter(1, order[:, : self.patches], True)


class _Learner(nn.Module):
    """The student, what is trained beside it and left behind, and the class embeddings."""

    def __init__(self, data: _Data, options: Distil) -> None:
        super().__init__()
        self.student = untrained_student(options.seed)
        # On CPUs its backward pass takes half the time of the fused one's.
        self.student.set_attn_implementation("eager")
        self.carried = nn.Linear(self.student.config.hidden_size, EMBEDDING)
        self.classes = nn.Parameter(torch.randn(len(data.folders), EMBEDDING))
        self.scale = nn.Parameter(torch.tensor(10.0).log())
        self._blocks[TAUGHT[0]].mlp = Choosing(self.student.config.hidden_size, NEURONS, data.values)
        # Of the last batch.
        self.streams: dict[int, Tensor] = {}
        self.right = torch.empty(0)

    @property
    def _blocks(self) -> Any:
        return self.student.vision_model.encoder.layers

    @property
    def choosing(self) -> Choosing:
        """The MLP that writes the outliers."""
        choosing: Choosing = self._blocks[TAUGHT[0]].mlp
        return choosing

    @torch.no_grad()
    def start(self, teacher: Path, data: _Data, seed: int) -> None:
        """The teacher's weights; what reads the student's tokens, fitted to them; the classes' mean images."""
        backbone = load_backbone(teacher, LAST, input_side=GRID * TEACHER_PATCH)
        moved = moved_neurons(backbone)
        assert moved is not None
        places = np.sort(
            np.random.default_rng([seed, 2]).choice(data.trained, min(128, len(data.trained)), replace=False)
        )
        start_from_teacher(self.student, backbone.model, moved, torch.from_numpy(data.pixels[places]))
        count = min(2_000, len(data.trained))
        some = np.sort(np.random.default_rng([seed, 3]).choice(data.trained, count, replace=False))
        cls, carried, images = [], [], []
        given: list[Tensor] = []
        watching = self.choosing.register_forward_pre_hook(
            lambda _module, arguments: given.append(arguments[0].float())
        )
        for part in np.array_split(some, -(-len(some) // 50)):
            outliers = data.outliers(part)
            with torch.autocast("cpu", torch.bfloat16):
                streams = self._streams(data, part, outliers, torch.ones(len(part), dtype=torch.bool))
            cls.append(self.student.vision_model.post_layernorm(streams[BLOCKS[-1]][:, 0].float()))
            carried.append(_apart(streams[CARRYING][:, 1:][outliers]))
            images.append(data.image[part].repeat_interleave(data.patches, 0))
        watching.remove()
        near = (torch.from_numpy(data.near[some].astype(np.float32)) - data.near_mean) / data.near_spread
        self.choosing.start(torch.cat(given), near, data.patches)
        # CLIP's projection has no bias; the norm before it has.
        self.student.vision_model.post_layernorm.bias.copy_(-torch.cat(cls).mean(0))
        self.student.visual_projection.weight.copy_(ridge(torch.cat(cls), data.image[some], 0.1)[0])
        weight, bias = ridge(torch.cat(carried), torch.cat(images), 0.1)
        self.carried.weight.copy_(weight)
        self.carried.bias.copy_(bias)
        for label in range(len(self.classes)):
            self.classes[label] = nn.functional.normalize(
                data.image[data.trained][data.labels[data.trained] == label].mean(0), dim=0
            )

    def losses(
        self, data: _Data, places: Int64[np.ndarray, " view"], forced: Bool[Tensor, " view"], smoothing: float
    ) -> dict[str, Tensor]:
        """The losses of a batch; ``streams`` and ``right``, which views were classed rightly, are left to look at.

        Args:
            data: the views.
            places: which of them.
            forced: those whose outliers are where the teacher has them.
            smoothing: of the classes.
        """
        outliers, image = data.outliers(places), data.image[places]
        with torch.autocast("cpu", torch.bfloat16):
            self.streams = self._streams(data, places, outliers, forced)
            cls = self.student.vision_model.post_layernorm(self.streams[BLOCKS[-1]][:, 0])
            embedding = self.student.visual_projection(cls)
        lit = self.choosing.lit()[:, 1:]
        ours = torch.where(forced[:, None], outliers, lit >= 1)
        normal = torch.where(forced[:, None], ~outliers, ~outliers & (lit <= 0))
        direction, norm = self._of_tokens(data.taught(places), outliers, ours, normal, data)
        marks = nn.functional.pad(outliers, (1, 0)).float()
        odds = nn.functional.binary_cross_entropy_with_logits(self.choosing.score, marks, reduction="none")
        near = torch.from_numpy(data.near[places].astype(np.float32))
        missed = self.choosing.near[:, 1:] - (near - data.near_mean) / data.near_spread
        carried = nn.functional.normalize(self.carried(_apart(self.streams[CARRYING][:, 1:][ours])), dim=1)
        of_image = image.repeat_interleave(ours.sum(1), 0)
        embedding = nn.functional.normalize(embedding.float(), dim=1)
        labels = data.labels[places]
        known = labels >= 0
        logits = self.scale.exp().clamp(max=100) * (embedding @ nn.functional.normalize(self.classes, dim=1).T)
        self.right = logits[known].argmax(1) == labels[known]
        return {
            "direction": direction,
            "norm": norm,
            "choice": odds.sum(1).mean() / data.patches,
            "near": missed.square().mean(),
            "carried": 1 - _mean((carried * of_image).sum(1)),
            "image": 1 - (embedding * image).sum(1).mean(),
            "class": nn.functional.cross_entropy(logits[known], labels[known], label_smoothing=smoothing),
        }

    @torch.no_grad()
    def watch(self, data: _Data) -> list[float]:
        """What the student makes of the held out views when nothing is forced, in the order of `WATCHED`."""
        outliers = data.outliers(data.held)
        losses = self.losses(data, data.held, torch.zeros(len(data.held), dtype=torch.bool), 0.0)
        shares, views, largest, recalls = [], [], [], []
        for block in TAUGHT:
            norms = self.streams[block][:, 1:].float().norm(dim=-1)
            ratios = norms / norms.median(dim=1, keepdim=True).values
            ours = ratios > OUTLYING
            shares.append(ours.float().mean())
            views.append(ours.any(1).float().mean())
            largest.append(ratios.amax(1).median())
            recalls.append((ours & outliers).sum() / outliers.sum())
        accuracy = self.right.float().mean()
        return [float(value) for value in (*shares, *views, *largest, *recalls, accuracy, *losses.values())]

    @torch.no_grad()
    def settle(self, data: _Data, seed: int) -> None:
        """Set the level for good: as many outliers to a whole photograph as the teacher has."""
        whole = data.trained[data.trained < data.photographs]
        some = np.sort(np.random.default_rng([seed, 4]).choice(whole, min(1_000, len(whole)), replace=False))
        scores = []
        for part in np.array_split(some, -(-len(some) // 50)):
            self._streams(data, part, data.outliers(part), torch.zeros(len(part), dtype=torch.bool))
            scores.append(self.choosing.score[:, 1:])
        level = torch.quantile(torch.cat(scores), 1 - data.patches / scores[0].shape[1])
        self.choosing.level.copy_(level)

    @torch.no_grad()
    def folded(self) -> CLIPVisionModelWithProjection:
        """The student as transformers has it. What is trained here is not changed."""
        whole, choosing = copy.deepcopy(self.student), self.choosing
        mlp = untrained_student(0).vision_model.encoder.layers[TAUGHT[0]].mlp
        choosing.fold(mlp)
        whole.vision_model.encoder.layers[TAUGHT[0]].mlp = mlp
        return whole

    def _streams(
        self,
        data: _Data,
        places: Int64[np.ndarray, " view"],
        outliers: Bool[Tensor, "view patch"],
        forced: Bool[Tensor, " view"],
    ) -> dict[int, Float[Tensor, "view token width"]]:
        """The student's tokens after each block."""
        self.choosing.chosen, self.choosing.forced = nn.functional.pad(outliers, (1, 0)), forced
        vision: Any = self.student.vision_model
        stream = vision.pre_layrnorm(vision.embeddings(normalise(torch.from_numpy(data.pixels[places]))))
        streams = {}
        for number, block in zip(BLOCKS, vision.encoder.layers, strict=True):
            streams[number] = stream = block(stream, attention_mask=None)
        return streams

    def _of_tokens(
        self,
        wanted: Float[Tensor, "view block patch width"],
        outliers: Bool[Tensor, "view patch"],
        ours: Bool[Tensor, "view patch"],
        normal: Bool[Tensor, "view patch"],
        data: _Data,
    ) -> tuple[Tensor, Tensor]:
        """The losses of direction and norm, over both blocks.

        An outlier of the student's is to be as the view's outliers are in the teacher, wherever these are.
        """
        direction, norm = torch.zeros(()), torch.zeros(())
        for number, block in enumerate(TAUGHT):
            said, target = self.streams[block][:, 1:].float(), wanted[:, number]
            outlying = (target * outliers[..., None]).sum(1, keepdim=True) / data.patches
            target = torch.where(ours[..., None], outlying, target)
            length, goal = said.norm(dim=-1, keepdim=True), target.norm(dim=-1, keepdim=True)
            off = (said / length - target / goal) * (data.length[number] / data.spread[number])
            longer = (length / goal).log()[..., 0] / data.length_spread[number]
            for errors, total in ((off.square().mean(-1), direction), (longer.square(), norm)):
                of_both = (1 - OUTLIER_SHARE) * _mean(errors[normal]) + OUTLIER_SHARE * _mean(errors[ours])
                total += of_both / len(TAUGHT)
        return direction, norm


def _apart(outliers: Float[Tensor, "token width"]) -> Float[Tensor, "token width"]:
    """Outlier tokens less what they have in common, which is twenty times as long as what tells them apart."""
    return outliers.float() - outliers.float().mean(0).detach()


def _mean(values: Tensor) -> Tensor:
    """The mean; of nothing, 0."""
    return values.sum() / max(values.numel(), 1)


def _shown(names: Sequence[str], values: Sequence[float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in zip(names, values, strict=True))


def _write_table(file: Path, names: Sequence[str], rows: list[list[float]]) -> None:
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(["step", *names])
        writer.writerows([[int(row[0]), *(f"{value:.4f}" for value in row[1:])] for row in rows])


def _optimiser(learner: nn.Module, options: Distil) -> torch.optim.Optimizer:
    """AdamW, whose steps are as large as the options say for a matrix as long as it was at first.

    Its steps are of one size whatever the gradient, and the teacher's matrices are not: layer scales, which went into
    them, make some of them ten times as short as others.
    """
    groups = []
    for name, weight in learner.named_parameters():
        # What goes around CLIP's first norm is in the position table, and is not to fade.
        fixed = weight.ndim < 2 or name.endswith("position_embedding.weight")
        size = options.vector_rate if fixed else options.learning_rate * float(weight.detach().square().mean().sqrt())
        if weight.ndim == 0:
            size = options.learning_rate
        decay = 0.0 if fixed else options.weight_decay * options.learning_rate / size
        groups.append({"params": [weight], "size": size, "weight_decay": decay})
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


if __name__ == "__main__":
    tyro.cli(Distil).run()
