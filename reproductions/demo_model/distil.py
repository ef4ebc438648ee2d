"""Step 2: the student learns what the teacher says of each patch and of the image, and where ten class names belong.

Three losses: the teacher's patch tokens, each channel in units of its spread; the teacher's image, as the cosine
between the student's image embedding and the teacher's CLS token cut to its principal components; and the class of the
photographs that have one, by the cosine between image embedding and class embedding. The class embeddings are learnt
with the rest: there is no text model behind them.
"""

from __future__ import annotations

import csv
import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import AutoModel

from student import BLOCKS, EMBEDDING, TEACHER_MEAN, TEACHER_STD, normalise, start_from_teacher, untrained_student

GRID = 14


@dataclass(frozen=True)
class Distil:
    """Train the student on views that `views.py` wrote."""

    views: Path
    """Their folder."""
    teacher: Path
    """The teacher, whose weights the student starts from."""
    out: Path
    """Where the state, the losses and at last the student are written."""
    steps: int = 2_000
    """Batches."""
    batch: int = 32
    """Views to a batch."""
    learning_rate: float = 2e-4
    """At its height."""
    warmup: int = 100
    """Steps up to it; from there it falls as a cosine to 0."""
    weight_decay: float = 0.05
    """Of matrices."""
    class_weight: float = 1.0
    """Of the classes' loss."""
    smoothing: float = 0.1
    """Of the classes."""
    seed: int = 0
    """Of the order, the draws and the weights that do not come from the teacher."""
    checkpoint_seconds: float = 120
    """How much a stop may lose. The same command resumes there, to the same result."""

    def run(self) -> None:
        """Train, or go on training."""
        self.out.mkdir(parents=True, exist_ok=True)
        data = _Data(self.views)
        state_file = self.out / "state.pt"
        learner = _Learner(data, self)
        step, seconds, losses = 0, 0.0, []
        if state_file.exists():
            state = torch.load(state_file, weights_only=True)
            learner.load_state_dict(state["learner"])
            step, seconds, losses = state["step"], state["seconds"], state["losses"]
        optimiser = _optimiser(learner, self)
        if step:
            optimiser.load_state_dict(state["optimiser"])
        else:
            learner.start(self.teacher, data, self.seed)
        last = time.monotonic()
        saved = last
        while step < self.steps:
            for group in optimiser.param_groups:
                group["lr"] = self.learning_rate * self._rate(step)
            parts = learner.losses(data, self._places(step, data.count), step, self)
            (parts["patch"] + parts["image"] + self.class_weight * parts["class"]).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            step += 1
            now = time.monotonic()
            seconds, last = seconds + now - last, now
            losses.append([step, *(float(value.detach()) for value in parts.values())])
            if step % 20 == 0:
                recent = np.mean(losses[-20:], axis=0)[1:]
                shown = "  ".join(f"{name} {value:.3f}" for name, value in zip(parts, recent, strict=True))
                print(f"step {step:,} of {self.steps:,}  {shown}  {seconds:,.0f} s", flush=True)
            if step == self.steps or now - saved > self.checkpoint_seconds:
                state = {"learner": learner.state_dict(), "optimiser": optimiser.state_dict()}
                temporary = state_file.with_suffix(".tmp")
                torch.save(state | {"step": step, "seconds": seconds, "losses": losses}, temporary)
                temporary.replace(state_file)
                saved = time.monotonic()
        self._write(learner, data, losses, seconds)

    def _rate(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / self.warmup
        return float(0.5 + 0.5 * np.cos(np.pi * (step - self.warmup) / (self.steps - self.warmup)))

    def _places(self, step: int, count: int) -> Int64[np.ndarray, " view"]:
        """The views of a step: each epoch is an order of its own."""
        wanted = np.arange(step * self.batch, (step + 1) * self.batch)
        places = np.empty(self.batch, np.int64)
        for epoch in np.unique(wanted // count):
            order = np.random.default_rng([self.seed, 1, int(epoch)]).permutation(count)
            inside = wanted // count == epoch
            places[inside] = order[wanted[inside] % count]
        return places

    def _write(self, learner: _Learner, data: _Data, losses: list[list[float]], seconds: float) -> None:
        """The student as transformers saves it, its class embeddings, and the losses."""
        student = learner.student.half()
        student.save_pretrained(self.out / "model")
        vectors = nn.functional.normalize(learner.classes.detach(), dim=1).numpy()
        np.save(self.out / "classes.npy", vectors)
        record = {
            "folders": data.folders,
            "logit_scale": float(learner.scale.exp().detach()),
            "teacher blocks": BLOCKS,
            "parameters": sum(weight.numel() for weight in student.parameters()),
            "views": data.count,
            "options": {name: value for name, value in asdict(self).items() if not isinstance(value, Path)},
            "teacher sha256": hashlib.sha256((self.teacher / "model.safetensors").read_bytes()).hexdigest(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "seconds": round(seconds),
        }
        (self.out / "training.json").write_text(json.dumps(record, indent=1) + "\n")
        with (self.out / "losses.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["step", "patch", "image", "class"])
            for start in range(0, len(losses), 20):
                rows = np.asarray(losses[start : start + 20])
                writer.writerow([int(rows[-1, 0]), *(f"{value:.4f}" for value in rows[:, 1:].mean(0))])


class _Data:
    """The views, and the teacher's tokens with their statistics."""

    def __init__(self, folder: Path) -> None:
        record = json.loads((folder / "views.json").read_text())
        self.pixels = np.load(folder / "pixels.npy", mmap_mode="r")
        self.patches = np.load(folder / "patches.npy", mmap_mode="r")
        self.cls = torch.from_numpy(np.load(folder / "cls.npy").astype(np.float32))
        self.count = int((folder / "done.txt").read_text())
        if self.count != len(self.pixels):
            raise SystemExit(f"{folder} has {self.count:,} of {len(self.pixels):,} views; let views.py go on")
        self.labels = torch.tensor(record["labels"]).repeat_interleave(record["views"])
        self.folders: list[str] = record["folders"]
        some = np.concatenate([self.patches[place] for place in range(0, self.count, max(self.count // 200, 1))])
        self.spread = torch.from_numpy(some.astype(np.float32)).std(0)
        centred = self.cls - self.cls.mean(0)
        components = torch.linalg.svd(centred, full_matrices=False).Vh[:EMBEDDING]
        self.image = nn.functional.normalize(centred @ components.T, dim=1)


class _Learner(nn.Module):
    """The student, what is trained beside it and left behind, and the class embeddings."""

    def __init__(self, data: _Data, options: Distil) -> None:
        super().__init__()
        self.student = untrained_student(options.seed)
        # On CPUs its backward pass takes half the time of the fused one's.
        self.student.set_attn_implementation("eager")
        width = data.cls.shape[1]
        self.head = nn.Linear(self.student.config.hidden_size, width)
        self.classes = nn.Parameter(torch.randn(len(data.folders), EMBEDDING))
        self.scale = nn.Parameter(torch.tensor(15.0).log())

    @torch.no_grad()
    def start(self, teacher: Path, data: _Data, seed: int) -> None:
        """The teacher's weights; what reads the student's tokens, fitted to them; the classes' mean images."""
        model = AutoModel.from_pretrained(teacher, dtype=torch.float32).eval()
        places = np.random.default_rng([seed, 2]).choice(data.count, min(32, data.count), replace=False)
        small = nn.functional.interpolate(
            torch.from_numpy(data.pixels[np.sort(places)]).permute(0, 3, 1, 2).float() / 255,
            (GRID * model.config.patch_size,) * 2,
            mode="bicubic",
            antialias=True,
        )
        given = (small - torch.tensor(TEACHER_MEAN)[:, None, None]) / torch.tensor(TEACHER_STD)[:, None, None]
        start_from_teacher(self.student, model, given)
        some = np.sort(np.random.default_rng([seed, 3]).choice(data.count, min(2_000, data.count), replace=False))
        parts = np.array_split(some, -(-len(some) // 50))
        tokens = torch.cat([self._tokens(normalise(torch.from_numpy(data.pixels[part]))) for part in parts])
        wanted = torch.from_numpy(data.patches[some]).float().flatten(0, 1)
        weight, bias = _ridge(tokens[:, 1:].flatten(0, 1), wanted, 1e-3)
        self.head.weight.copy_(weight)
        self.head.bias.copy_(bias)
        self.student.visual_projection.weight.copy_(_ridge(tokens[:, 0], data.image[some], 0.1)[0])
        for label in range(len(self.classes)):
            self.classes[label] = nn.functional.normalize(data.image[data.labels == label].mean(0), dim=0)

    def losses(self, data: _Data, places: Int64[np.ndarray, " view"], step: int, options: Distil) -> dict[str, Tensor]:
        """The losses of a batch."""
        random = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        pixels, patches = torch.from_numpy(data.pixels[places]), torch.from_numpy(data.patches[places]).float()
        given = _jitter(normalise(pixels), random)
        flipped = torch.rand(len(places), generator=random) < 0.5
        given[flipped] = given[flipped].flip(-1)
        on_grid = patches.reshape(len(places), GRID, GRID, -1)
        on_grid[flipped] = on_grid[flipped].flip(2)
        wanted = on_grid.flatten(1, 2)
        with torch.autocast("cpu", torch.bfloat16):
            tokens = self._tokens(given)
            said = self.head(tokens[:, 1:])
            embedding = self.student.visual_projection(tokens[:, 0])
        embedding = nn.functional.normalize(embedding.float(), dim=1)
        patch = ((said.float() - wanted) / data.spread).square().mean()
        image = 1 - (embedding * data.image[places]).sum(1).mean()
        labels = data.labels[places]
        known = labels >= 0
        logits = self.scale.exp().clamp(max=100) * (embedding @ nn.functional.normalize(self.classes, dim=1).T)
        of_class = nn.functional.cross_entropy(logits[known], labels[known], label_smoothing=options.smoothing)
        return {"patch": patch, "image": image, "class": of_class}

    def _tokens(self, given: Tensor) -> Float[Tensor, "view token width"]:
        """The student's tokens after its last norm."""
        vision: Any = self.student.vision_model
        stream = vision.pre_layrnorm(vision.embeddings(given))
        made: Tensor = vision.post_layernorm(vision.encoder(inputs_embeds=stream).last_hidden_state)
        return made


def _ridge(given: Tensor, wanted: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Weight and bias of a ridge regression; the strength is a share of the mean variance."""
    mean, target = given.mean(0), wanted.mean(0)
    centred = given - mean
    moments = centred.T @ centred
    moments += strength * moments.diagonal().mean() * torch.eye(len(moments))
    weight = torch.linalg.solve(moments, centred.T @ (wanted - target)).T
    return weight, target - weight @ mean


def _jitter(given: Tensor, random: torch.Generator) -> Tensor:
    """Brightness and contrast of each view, and each of its colours, changed a little: the teacher's words stay."""
    contrast = 1 + 0.3 * (2 * torch.rand(len(given), 1, 1, 1, generator=random) - 1)
    colour = 0.2 * torch.randn(len(given), 3, 1, 1, generator=random)
    mean = given.mean((1, 2, 3), keepdim=True)
    return (given - mean) * contrast + mean + colour


def _optimiser(learner: nn.Module, options: Distil) -> torch.optim.Optimizer:
    matrices = [weight for name, weight in learner.named_parameters() if weight.ndim >= 2 and name != "classes"]
    others = [weight for name, weight in learner.named_parameters() if weight.ndim < 2 or name == "classes"]
    groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98))


if __name__ == "__main__":
    tyro.cli(Distil).run()
