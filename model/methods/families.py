"""Hash families: what makes codes of vectors, and the law of what shares them."""

from __future__ import annotations

import torch

from truffle.kernels.collision import CollisionLaw
from truffle.kernels.cross_polytope import CrossPolytopeLaw, cross_polytope_codes, hashes_of
from truffle.kernels.planes import hyperplanes
from truffle.model.operations import Operations
from truffle.model.parameters import LshParameters
from truffle.model.torch_threads import torch_threads


def family_of(p: LshParameters, ops: Operations) -> SimHash:
    """The one that the parameters name."""
    kinds = {"simhash": SimHash, "simple_lsh": SimpleLsh, "cross_polytope": CrossPolytope}
    return kinds[p.family](p, ops)


def law_of(p: LshParameters) -> CollisionLaw:
    """How likely a key is sampled, by its angle as hashed, where the query does not direct the probes."""
    if p.coordinates is not None:
        return CrossPolytopeLaw(p.K, p.L, p.min_hits, coordinates=p.coordinates)
    return CollisionLaw(p.K, p.L, p.min_hits, p.probing.ball)


class SimHash:
    """Signs of projections (Charikar 2002), K a table.

    Attributes:
        columns: of the planes, a table.
    """

    _more = 0  # coordinates that are hashed beside the vector's own

    def __init__(self, p: LshParameters, ops: Operations) -> None:
        self._p, self._ops, self.columns = p, ops, p.K

    def planes(self, head_dim: int, layer: int) -> torch.Tensor:
        """What codes are made with, [d, L * columns] float32; the first tables' columns come first."""
        drawn = hyperplanes(head_dim + self._more, self.columns, self._p.L, self._p.seed, layer)
        return torch.from_numpy(drawn.copy())

    def hash(self, x: torch.Tensor, planes: torch.Tensor, center: torch.Tensor | None, codes: torch.Tensor) -> None:
        """Fill codes [R, L, n] uint16 with those of x [R, n, d] less center [R, d], on the device of all."""
        self._ops.hash_codes(x.contiguous(), planes, center, codes, K=self._p.K)

    def hash_keys(
        self, keys: torch.Tensor, planes: torch.Tensor, center: torch.Tensor, radius: torch.Tensor, codes: torch.Tensor
    ) -> None:
        """The same for keys [Hkv, n, d], of which the longest of the first were `radius` [Hkv] from the centre."""
        self.hash(keys, planes, center, codes)

    def hashed_norms(self, norms: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
        """The norms of what is hashed of keys that are [Hkv, n] from the centre."""
        return norms


class CrossPolytope(SimHash):
    """The largest of `coordinates` projections and its sign, as many times as K bits take (arXiv 1509.02897)."""

    def __init__(self, p: LshParameters, ops: Operations) -> None:
        super().__init__(p, ops)
        assert p.coordinates is not None
        self._hashes = hashes_of(p.K, p.coordinates)
        self.columns = sum(self._hashes)

    def hash(self, x: torch.Tensor, planes: torch.Tensor, center: torch.Tensor | None, codes: torch.Tensor) -> None:
        """On the CPU with one thread for every 32 vectors at most: the product of fewer is made before a second has
        been woken, and on a busy machine torch waits milliseconds for it.
        """
        with torch_threads(min(max(1, x[..., 0].numel() // 32), torch.get_num_threads())):
            cross_polytope_codes(x, planes, center, codes, self._hashes)


class SimpleLsh(SimHash):
    """SimHash of keys made equally long by one more coordinate, sqrt(radius^2 - |k|^2), 0 for queries
    (Neyshabur and Srebro, arXiv 1410.5518; METHODS 0.4).

    The cosine that counts is q.k / (|q| radius): collisions follow products, at the price of angles near pi / 2. A
    later key that is longer than `radius` is as it is.
    """

    _more = 1

    def hash(self, x: torch.Tensor, planes: torch.Tensor, center: torch.Tensor | None, codes: torch.Tensor) -> None:
        assert center is None, "keys need their radius"
        super().hash(torch.nn.functional.pad(x, (0, 1)), planes, None, codes)

    def hash_keys(
        self, keys: torch.Tensor, planes: torch.Tensor, center: torch.Tensor, radius: torch.Tensor, codes: torch.Tensor
    ) -> None:
        centred = keys.float() - center[:, None]
        missing = (radius[:, None] ** 2 - centred.square().sum(-1)).clamp_min(0).sqrt()
        super().hash(torch.cat([centred, missing[..., None]], -1), planes, None, codes)

    def hashed_norms(self, norms: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
        return norms.maximum(radius[:, None])
