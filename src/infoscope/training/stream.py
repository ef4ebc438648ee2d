"""Tokens for training: kept between passes where they fit in memory, shuffled, and handed out batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from infoscope.errors import InfoscopeError


def check_finite(tokens: Tensor) -> None:
    """Refuse tokens that hold NaN or infinity.

    Raises:
        InfoscopeError: they do.
    """
    # A finite sum says so of all tokens in a thirtieth of the time; but large finite tokens may overflow it.
    if not torch.isfinite(tokens.sum()) and not torch.isfinite(tokens).all():
        raise InfoscopeError(
            "the model's tokens hold NaN or infinity; check the checkpoint, or run the model in float32"
        )


class TokenPool:
    """Tokens that can be iterated over many times and are computed once, where they fit in memory.

    The first whole pass is kept as float32; when it outgrows ``cache_bytes`` it is dropped, and every pass is computed
    again. The tokens and their order are the same either way.

    Args:
        compute: starts a fresh pass, which gives tensors ``[token, width]``; each pass must give the same tokens.
        cache_bytes: how much memory the tokens may take.

    Example:
        >>> pool = TokenPool(lambda: iter([torch.zeros(2, 3), torch.ones(1, 3)]), cache_bytes=2**20)
        >>> sum(len(tokens) for tokens in pool), pool.kept
        (3, True)
    """

    def __init__(self, compute: Callable[[], Iterable[Tensor]], cache_bytes: int = 2 * 2**30):
        self._compute = compute
        self._cache_bytes = cache_bytes
        self._cache: list[Tensor] | None = None

    @property
    def kept(self) -> bool:
        """Whether a whole pass is in memory."""
        return self._cache is not None

    def __iter__(self) -> Iterator[Tensor]:
        if self._cache is not None:
            yield from self._cache
            return
        copies: list[Tensor] = []
        size = 0
        for tokens in self._compute():
            size += 4 * tokens.numel()
            if size > self._cache_bytes:
                copies.clear()
            else:
                # A view would keep alive all that a caller cut these tokens from.
                copies.append(tokens.to("cpu", torch.float32, copy=True))
            yield tokens
        # Only here is the pass known to be whole: a caller may stop in the middle of it.
        if size <= self._cache_bytes:
            self._cache = copies


class TokenStream:
    """One long sequence of tokens from as many passes as needed, cut anywhere.

    Args:
        batches: gives tensors ``[token, width]``, and the same ones each time it is iterated.
        held_out: how many tokens at the start of each pass are left out.

    Attributes:
        passes: how many passes were started.
        taken: how many tokens were handed out.
        held_out: the tokens that are left out, ``[token, width]``, once a pass was started.
    """

    def __init__(self, batches: Iterable[Tensor], held_out: int = 0):
        self.passes = 0
        self.taken = 0
        self.held_out = torch.empty(0, 0)
        self._batches = batches
        self._left_out = held_out
        self._pass: Iterator[Tensor] = iter(())
        # What is left of the batch that was read last.
        self._rest = torch.empty(0, 0)
        # Tokens read in this pass, those left out not counted.
        self._read = 0

    @property
    def position(self) -> int:
        """How many tokens of this pass were handed out."""
        return self._read - len(self._rest)

    def take(self, count: int, *, one_pass: bool = False) -> Float[Tensor, "token width"]:
        """The next ``count`` tokens, float32 on the CPU; fewer when ``one_pass`` and the pass ends.

        Raises:
            InfoscopeError: the tokens have run out, or hold NaN or infinity.
        """
        pieces = self.pieces(count, one_pass=one_pass)
        return torch.cat(pieces) if pieces else torch.empty(0, self._rest.shape[1])

    def pieces(self, count: int, *, one_pass: bool = False) -> list[Float[Tensor, "_ width"]]:
        """The same, not joined: views of what the stream is made of.

        Raises:
            InfoscopeError: as for `take`.
        """
        pieces = self._cut(count)
        missing = count - sum(map(len, pieces))
        while missing and not (one_pass and self.passes and self._read):
            self._start_pass()
            more = self._cut(missing)
            pieces += more
            missing -= sum(map(len, more))
        self.taken += count - missing
        return pieces

    def move_to(self, passes: int, position: int, taken: int) -> None:
        """Resume where another stream of the same tokens was.

        Raises:
            InfoscopeError: there are not as many tokens.
        """
        self._rest, self.passes = torch.empty(0, 0), 0
        self._start_pass()
        if sum(map(len, self._cut(position))) < position:
            raise InfoscopeError("there are fewer tokens than when the training was stopped; start it again")
        self.passes, self.taken = passes, taken

    def _start_pass(self) -> None:
        if self.passes and not self._read:
            raise InfoscopeError(
                f"there are no more tokens after {self.taken}; give more images, or tokens that can be read again"
            )
        self._pass = iter(self._batches)
        self.passes += 1
        left_out = self._cut(self._left_out)
        self.held_out = torch.cat(left_out) if left_out else torch.empty(0, 0)
        self._read = len(self._rest)

    def _cut(self, count: int) -> list[Tensor]:
        """The next tokens of this pass; fewer when it ends."""
        pieces: list[Tensor] = []
        while count and self._has_more():
            piece, self._rest = self._rest[:count], self._rest[count:]
            pieces.append(piece)
            count -= len(piece)
        return pieces

    def _has_more(self) -> bool:
        """Whether this pass has another token; reads the next batch where it must."""
        while not len(self._rest):
            batch = next(self._pass, None)
            if batch is None:
                return False
            check_finite(batch)
            self._rest = batch.detach().to("cpu", torch.float32)
            self._read += len(self._rest)
        return True


class ShuffleBuffer:
    """Hands out random tokens of a window that slides over a stream, each token of the stream once.

    A batch is drawn from the window without replacement, and the tokens that come next take its places, so that a batch
    mixes the tokens of many images. What is drawn depends on the seed and on the sequence of tokens, not on the batches
    they came in.

    Args:
        batches: gives tensors ``[token, width]``, and the same ones each time it is iterated.
        size: how many tokens the window holds; at first, no more than one pass gives.
        total: how many tokens to hand out in all.
        seed: determines the draws.
        held_out: how many tokens at the start of each pass are never handed out.

    Attributes:
        stream: the tokens that come next.
        window: the tokens that may be drawn next, ``[token, width]``.

    Example:
        >>> buffer = ShuffleBuffer([torch.arange(6.0).view(3, 2)], size=3, total=6, seed=0)
        >>> sorted(torch.cat([buffer.draw(2) for _ in range(3)])[:, 0].tolist())
        [0.0, 0.0, 2.0, 2.0, 4.0, 4.0]
    """

    def __init__(self, batches: Iterable[Tensor], size: int, total: int, seed: int, held_out: int = 0):
        self.stream = TokenStream(batches, held_out)
        self._total = total
        self._random = np.random.default_rng(seed)
        self.window = self.stream.take(min(size, total), one_pass=True)

    def tensors(self) -> dict[str, Tensor]:
        """What the next draws depend on, together with `numbers`."""
        return {"window": self.window}

    def numbers(self) -> dict[str, Any]:
        """The rest of what they depend on, as JSON values."""
        counts = {"passes": self.stream.passes, "position": self.stream.position, "taken": self.stream.taken}
        return {**counts, "random": self._random.bit_generator.state}

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Draw as the buffer that gave these would, from the same tokens.

        Raises:
            InfoscopeError: there are fewer of them.
        """
        self.window = tensors["window"]
        self._random.bit_generator.state = numbers["random"]
        self.stream.move_to(numbers["passes"], numbers["position"], numbers["taken"])

    def draw(self, count: int) -> Float[Tensor, "token width"]:
        """``count`` random tokens; fewer only when the total is reached.

        Raises:
            InfoscopeError: the tokens have run out.
        """
        draws: list[Tensor] = []
        while count and len(self.window):
            draws.append(self._draw_once(min(count, len(self.window))))
            count -= len(draws[-1])
        return draws[0] if len(draws) == 1 else torch.cat(draws)

    def _draw_once(self, count: int) -> Tensor:
        # numpy's draw takes time by the batch, where torch's takes it by the window; measured, torch gathers faster.
        positions = torch.from_numpy(self._random.choice(len(self.window), count, replace=False))
        drawn = self.window.index_select(0, positions)
        filled = 0
        for piece in self.stream.pieces(min(count, self._total - self.stream.taken)):
            self.window[positions[filled : filled + len(piece)]] = piece
            filled += len(piece)
        if holes := count - filled:
            # The stream has ended: the last tokens of the window move into the holes before them.
            size = len(self.window) - holes
            is_hole = torch.zeros(len(self.window), dtype=torch.bool)
            is_hole[positions[filled:]] = True
            self.window[:size][is_hole[:size]] = self.window[size:][~is_hole[size:]]
            self.window = self.window[:size]
        return drawn
