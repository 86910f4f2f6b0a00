"""Quest (arXiv 2406.10774): pages of keys, ranked by an upper bound of the scores in them."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from truffle.model.methods.choosing.chosen import Chosen, certainly
from truffle.model.methods.choosing.selector import Errors, View
from truffle.model.methods.choosing.top import largest
from truffle.model.selecting_parameters import QuestParameters, keys_of


class Pages:
    """The least and largest of every dimension over each page of `size` keys; the last page may be open.

    Attributes:
        least, most: [Hkv, pages, d].
    """

    def __init__(self, size: int) -> None:
        self.size, self._keys = size, 0

    def add(self, keys: torch.Tensor) -> None:
        """Take the next keys, [Hkv, m, d]."""
        filled = self._keys % self.size
        least, most = (self._folded(keys, filled, empty) for empty in (torch.inf, -torch.inf))
        least, most = least.amin(2), most.amax(2)
        if filled:  # the first of these goes on with the open page
            least[:, 0] = torch.minimum(least[:, 0], self.least[:, -1])
            most[:, 0] = torch.maximum(most[:, 0], self.most[:, -1])
        closed = self._keys // self.size
        self.least = least if closed == 0 else torch.cat([self.least[:, :closed], least], 1)
        self.most = most if closed == 0 else torch.cat([self.most[:, :closed], most], 1)
        self._keys += keys.shape[1]

    def _folded(self, keys: torch.Tensor, filled: int, empty: float) -> torch.Tensor:
        """Keys by page, [Hkv, pages, size, d], with `empty` where there is none."""
        behind = -(filled + keys.shape[1]) % self.size
        return F.pad(keys.float(), (0, 0, filled, behind), value=empty).unflatten(1, (-1, self.size))

    def bounds(self, q: torch.Tensor) -> torch.Tensor:
        """No score q.k / sqrt(d) of a page is above this: q [Hkv, G, d] to [Hkv, G, pages]."""
        above = q.clamp_min(0) @ self.most.transpose(1, 2) + q.clamp_max(0) @ self.least.transpose(1, 2)
        return above * q.shape[-1] ** -0.5

    def keys_in(self, pages: torch.Tensor) -> torch.Tensor:
        """A mask of keys [..., n] from one of pages [..., pages]."""
        return pages.repeat_interleave(self.size, dim=-1)[..., : self._keys]


def pages_of(budget: int | float, n: int, size: int) -> int:
    """Whole pages that a budget pays for among n keys, one at least if it pays for a key."""
    keys = keys_of(budget, n)
    return -(-n // size) if keys == n else max(min(keys, 1), keys // size)


class Quest:
    """The pages of the highest bounds, for every query head its own."""

    def __init__(self, parameters: QuestParameters) -> None:
        self._budget, self.pages = parameters.budget, Pages(parameters.page_size)

    def add(self, keys: torch.Tensor) -> None:
        self.pages.add(keys)

    def select(self, view: View, generator: torch.Generator) -> Chosen:
        count = pages_of(self._budget, view.keys.shape[1], self.pages.size)
        return certainly(self.pages.keys_in(largest(self.pages.bounds(view.q), count)))

    def errors(self, view: View, chosen: Chosen) -> Errors | None:
        return None
