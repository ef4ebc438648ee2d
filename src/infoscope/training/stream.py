"""Tokens for training: kept between passes where they fit, mixed, and handed out batch by batch."""

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
    # A sum is finite when all of it is, and thirty times as fast to look at; a large finite one may still overflow.
    if not torch.isfinite(tokens.sum()) and not torch.isfinite(tokens).all():
        raise InfoscopeError(
            "the model's tokens hold NaN or infinity; check the checkpoint, or run the model in float32"
        )


class TokenPool:
    """Tokens that can be iterated over many times and are computed once, where they fit in memory.

    The first whole pass is kept as float32; when it outgrows ``cache_bytes`` it is let go and every pass is computed
    anew. The tokens and their order are the same either way.

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
        seen: list[Tensor] = []
        size = 0
        fits = True
        for tokens in self._compute():
            if fits:
                size += 4 * tokens.numel()
                fits = size <= self._cache_bytes
                # A copy: what a caller cut these tokens from would otherwise stay alive with them.
                seen = [*seen, tokens.to("cpu", torch.float32, copy=True)] if fits else []
            yield tokens
        if fits:
            self._cache = seen


class TokenStream:
    """One long sequence of tokens from as many passes as needed, cut anywhere.

    Args:
        batches: gives tensors ``[token, width]``, and the same ones each time it is iterated.
        held_out: so many tokens at the beginning of each pass are left out.

    Attributes:
        passes: passes that were begun.
        taken: tokens handed out.
        held_out: those that are left out, ``[token, width]``, once a pass was begun.
    """

    def __init__(self, batches: Iterable[Tensor], held_out: int = 0):
        self._batches = batches
        self._held_out = held_out
        self.held_out = torch.empty(0, 0)
        self._pass: Iterator[Tensor] = iter(())
        self._rest = torch.empty(0, 0)
        self._in_pass = 1
        self.passes = 0
        self.taken = 0

    def take(self, count: int, *, one_pass: bool = False) -> Float[Tensor, "token width"]:
        """The next ``count`` tokens, float32 on the CPU; fewer when ``one_pass`` and the pass ends.

        Raises:
            InfoscopeError: the tokens have run out, or hold NaN or infinity.
        """
        parts = self.pieces(count, one_pass=one_pass)
        return torch.cat(parts) if parts else torch.empty(0, self._rest.shape[1])

    def pieces(self, count: int, *, one_pass: bool = False) -> list[Float[Tensor, "_ width"]]:
        """The same, not joined: views of what the stream is made of.

        Raises:
            InfoscopeError: as for `take`.
        """
        parts: list[Tensor] = []
        missing = count
        while missing:
            if not len(self._rest):
                following = next(self._pass, None)
                if following is None:
                    if one_pass and self.passes and self._in_pass:
                        break
                    self._begin_pass()
                    continue
                self._rest = self._checked(following)
                self._in_pass += len(self._rest)
            part, self._rest = self._rest[:missing], self._rest[missing:]
            parts.append(part)
            missing -= len(part)
        self.taken += count - missing
        return parts

    def _begin_pass(self) -> None:
        if not self._in_pass:
            raise InfoscopeError(
                f"there are no more tokens after {self.taken}; give more images, or tokens that can be read again"
            )
        self._pass = iter(self._batches)
        self._in_pass = 0
        self.passes += 1
        self.held_out = self._skip(self._held_out)
        self._in_pass -= len(self.held_out)

    @property
    def position(self) -> int:
        """Tokens of this pass that were handed out."""
        return self._in_pass - len(self._rest)

    def move_to(self, passes: int, position: int, taken: int) -> None:
        """Go on where another stream of the same tokens was.

        Raises:
            InfoscopeError: there are not as many tokens.
        """
        self._rest, self._in_pass = torch.empty(0, 0), 1
        self._begin_pass()
        if len(self._skip(position)) < position:
            raise InfoscopeError("there are fewer tokens than when the training was stopped; start it again")
        self.passes, self.taken = passes, taken

    def _skip(self, count: int) -> Tensor:
        """The next tokens of this pass; fewer when it ends."""
        parts: list[Tensor] = []
        while count:
            if not len(self._rest):
                following = next(self._pass, None)
                if following is None:
                    break
                self._rest = self._checked(following)
                self._in_pass += len(self._rest)
            part, self._rest = self._rest[:count], self._rest[count:]
            parts.append(part)
            count -= len(part)
        return torch.cat(parts) if parts else torch.empty(0, 0)

    def _checked(self, tokens: Tensor) -> Tensor:
        check_finite(tokens)
        return tokens.detach().to("cpu", torch.float32)


class ShuffleBuffer:
    """Hands out random tokens of a window that slides over a stream; each token of the stream once.

    A batch is drawn from the window without replacement and its places are filled with the tokens that come next, so
    that a batch mixes the tokens of many images. What is drawn depends on the seed and on the sequence of tokens, not
    on the batches they came in.

    Args:
        batches: gives tensors ``[token, width]``, and the same ones each time it is iterated.
        size: tokens in the window; no more than one pass gives are read into it at first.
        total: tokens to hand out in all.
        seed: of the draws.
        held_out: so many tokens at the beginning of each pass are never handed out.

    Example:
        >>> buffer = ShuffleBuffer([torch.arange(6.0).view(3, 2)], size=3, total=6, seed=0)
        >>> sorted(torch.cat([buffer.draw(2) for _ in range(3)])[:, 0].tolist())
        [0.0, 0.0, 2.0, 2.0, 4.0, 4.0]
    """

    def __init__(self, batches: Iterable[Tensor], size: int, total: int, seed: int, held_out: int = 0):
        self._stream = TokenStream(batches, held_out)
        self._total = total
        self._random = np.random.default_rng(seed)
        self._window = self._stream.take(min(size, total), one_pass=True)

    @property
    def window(self) -> Float[Tensor, "token width"]:
        """The tokens that may be drawn next."""
        return self._window

    @property
    def passes(self) -> int:
        """How many passes over the tokens were begun."""
        return self._stream.passes

    @property
    def held_out(self) -> Float[Tensor, "token width"]:
        """The tokens that are never handed out."""
        return self._stream.held_out

    def tensors(self) -> dict[str, Tensor]:
        """What the next draws depend on, beside `numbers`."""
        return {"window": self._window}

    def numbers(self) -> dict[str, Any]:
        """The rest of it, as JSON values."""
        stream = self._stream
        return {
            "passes": stream.passes,
            "position": stream.position,
            "taken": stream.taken,
            "random": self._random.bit_generator.state,
        }

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Draw as the buffer that gave these would, from the same tokens.

        Raises:
            InfoscopeError: there are fewer of them.
        """
        self._window = tensors["window"]
        self._random.bit_generator.state = numbers["random"]
        self._stream.move_to(numbers["passes"], numbers["position"], numbers["taken"])

    def draw(self, count: int) -> Float[Tensor, "token width"]:
        """``count`` random tokens; fewer only when the total is reached.

        Raises:
            InfoscopeError: the tokens have run out.
        """
        parts: list[Tensor] = []
        while count and len(self._window):
            parts.append(self._draw_once(min(count, len(self._window))))
            count -= len(parts[-1])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _draw_once(self, count: int) -> Tensor:
        # Measured: numpy's draw costs by the batch rather than the window, and torch gathers the faster.
        chosen = self._random.choice(len(self._window), count, replace=False)
        place = torch.from_numpy(chosen)
        drawn = self._window.index_select(0, place)
        filled = 0
        for piece in self._stream.pieces(min(count, self._total - self._stream.taken)):
            self._window[place[filled : filled + len(piece)]] = piece
            filled += len(piece)
        if holes := count - filled:
            # The stream has ended: the last tokens of the window move into the holes before them.
            left = len(self._window) - holes
            gone = torch.zeros(len(self._window), dtype=torch.bool)
            gone[place[filled:]] = True
            self._window[:left][gone[:left]] = self._window[left:][~gone[left:]]
            self._window = self._window[:left]
        return drawn
