"""How likely LSH samples a key when the probed buckets were chosen by the query's own margins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

LEAST_LOG_U = -80.0  # ln u is not followed below: such a key is never met, and float32 ends at -87
_LEAST_ANGLE = 1e-9  # keeps cot(theta) finite; a margin of 0 then still means an even chance
MOST_MARGIN = 6.0  # larger margins, and those that are no numbers, count as this: it takes a billion planes to meet one


@dataclass(frozen=True)
class DirectedLaw:
    """Inclusion law of SimHash tables given the query's margins z, for exactly the buckets that are probed.

    A bit of a key at angle theta differs from the query's with probability ``f = Phi(-|z| cot(theta))``; a
    table retrieves the key when its differing bits are one of the probed sets A, with probability ``pi_l =
    sum_A prod_{A} f_j prod_{not A} (1 - f_j)``; tables are independent given z. The unconditional law does not
    hold here: which buckets are probed depends on z. (Probing by margins: Lv et al. 2007; the law: derived.)

    Attributes:
        margins: w_j . q / |q| by plane, [B, H, L, K] float32; 0 for a zero query.
        query_codes: probed buckets, distinct in a table, [B, H, L, P] uint16.
        log_u: ln u at agreements i / 4096, [B*H, 4097] float32, as the operation direct_probes gives it.
        min_hits: tables that must retrieve the key.
    """

    margins: torch.Tensor
    query_codes: torch.Tensor
    log_u: torch.Tensor
    min_hits: int = 2

    @property
    def tables(self) -> np.ndarray:
        """ln u for linear interpolation over the agreement 1 - theta / pi, one row a query head."""
        return self.log_u.numpy()

    def log_inclusion(self, cosine: np.ndarray, row: int) -> np.ndarray:
        """ln u for cosines between the query of a row and hashed keys, clamped to [-1, 1], float64."""
        theta = np.arccos(np.clip(np.asarray(cosine, np.float64), -1.0, 1.0))
        return self.log_inclusion_at(1.0 - theta / np.pi, row)

    def log_inclusion_at(self, agreement: np.ndarray, row: int) -> np.ndarray:
        """ln u for agreements [N] in [0, 1], float64, at least LEAST_LOG_U; from the margins, not the tables."""
        theta = np.pi * (1.0 - torch.as_tensor(agreement, dtype=torch.float64))
        cot = 1.0 / torch.tan(theta.clamp(_LEAST_ANGLE, np.pi - _LEAST_ANGLE))
        margins, codes = self.margins.flatten(0, 1)[row].double(), self.query_codes.flatten(0, 1)[row]
        log_pi = log_table_hits(margins, codes, cot)
        return log_at_least(self.min_hits, log_pi).clamp_min(LEAST_LOG_U).numpy()


def own_codes(margins: torch.Tensor) -> torch.Tensor:
    """The query's own buckets, [..., L] int32, from margins [..., L, K]: bit j is ``margin_j > 0``."""
    bits = 1 << torch.arange(margins.shape[-1], dtype=torch.int32, device=margins.device)
    return ((margins > 0) * bits).sum(-1, dtype=torch.int32)


def log_table_hits(margins: torch.Tensor, codes: torch.Tensor, cot: torch.Tensor) -> torch.Tensor:
    """ln pi [L, N]: how likely each table retrieves a key, from margins [L, K], codes [L, P] and cot(theta) [N]."""
    K = margins.shape[-1]
    flips = own_codes(margins)[:, None] ^ codes.int()
    flipped = (flips[..., None] >> torch.arange(K) & 1).double()  # [L, P, K]
    reach = margins.abs().nan_to_num(MOST_MARGIN).clamp_max(MOST_MARGIN)[..., None] * cot
    differs, agrees = torch.special.log_ndtr(-reach), torch.special.log_ndtr(reach)
    return (flipped @ differs + (1 - flipped) @ agrees).logsumexp(1).clamp_max(0.0)


def log_at_least(min_hits: int, log_pi: torch.Tensor) -> torch.Tensor:
    """ln Pr(at least `min_hits` of independent events) [N] from their ln pi [L, N]; sums of positive terms only."""
    below = [torch.zeros_like(log_pi[0])] + [torch.full_like(log_pi[0], -torch.inf)] * (min_hits - 1)
    reached = torch.full_like(log_pi[0], -torch.inf)
    for hit in log_pi:
        miss = torch.log1p(-hit.exp())
        reached = torch.logaddexp(reached, below[-1] + hit)
        more = [torch.logaddexp(below[i] + miss, below[i - 1] + hit) for i in range(1, min_hits)]
        below = [below[0] + miss, *more]
    return reached.clamp_max(0.0)
