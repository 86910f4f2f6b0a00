"""How often vAttention is further off than it promised, beside the share that it promised to be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from truffle.bench.guarantees.intervals import clustered
from truffle.bench.guarantees.planted import seen_keys
from truffle.bench.guarantees.positions import Position, repeated
from truffle.bench.guarantees.published import published_rule
from truffle.model.methods.choosing.chosen import Chosen
from truffle.model.methods.choosing.selector import View
from truffle.model.methods.choosing.vattention import VAttention, Verified
from truffle.model.operations import Operations
from truffle.model.selecting_parameters import VAttentionParameters

PUBLISHED = "published"
# Who finds the heavy set, how the rest is made enough, what is checked; see VAttentionParameters for what is refused.
CLAIMS = (
    *(("oracle", bound, "denominator") for bound in ("clt", "bernstein", "hoeffding", PUBLISHED)),
    *(("quest", bound, "denominator") for bound in ("clt", "bernstein", "hoeffding")),
    ("lsh", "clt", "denominator"),
    *((heavy, "clt", "both") for heavy in ("oracle", "quest", "lsh")),
)
PLANTED = [(heavy, "clt", "denominator") for heavy in ("oracle", "quest", "lsh")]
Choose = Callable[[View, View, int, torch.Generator], Verified]


@dataclass(frozen=True)
class Off:
    """What repeated draws of a layer's heads came to, [Hkv, G, R] each: errors relative to what is exact.

    `budget` is of keys drawn, and `asked` whether they are more than are drawn in any case.
    """

    denominator: torch.Tensor
    output: torch.Tensor
    density: torch.Tensor
    budget: torch.Tensor
    asked: torch.Tensor

    @staticmethod
    def of(
        view: View, chosen: Chosen, exact: tuple[torch.Tensor, torch.Tensor], budget: torch.Tensor, asked: torch.Tensor
    ) -> Off:
        """What was chosen, beside numerator [Hkv, G, d] and denominator [Hkv, G] of attention to everything."""
        numerator, denominator = view.estimate(chosen)
        out = exact[0] / exact[1][..., None]
        return Off(
            (denominator - exact[1]).abs() / exact[1],
            (numerator / denominator[..., None] - out).norm(dim=-1) / out.norm(dim=-1),
            chosen.keys / view.keys.shape[1],
            budget,
            asked,
        )


def measure_claims(
    places: Sequence[Position],
    epsilons: Sequence[float],
    keys: int,
    draws: int,
    ops: Operations,
    seed: int = 0,
    claims: Sequence[tuple[str, str, str]] = CLAIMS,
) -> Iterator[dict[str, Any]]:
    """A flat record a claim and epsilon, which is delta too: the share of draws that are off by more.

    A share is over heads, layers and draws of one position, its interval over positions, and `worst_head` the largest
    of a layer's head over all its draws. `asked` is the share of queries for which most draws ask for more than the
    base, so that the promise is put to the test, and `asked_violations` is theirs.

    Args:
        keys: of the heavy set, and of the base; draws: samples of each query.
    """
    generator = torch.Generator().manual_seed(seed)
    for heavy, bound, check in claims:
        for epsilon in epsilons:
            choose = _chooser(heavy, bound, check, epsilon, keys, ops)
            offs = [
                [_off(view, layer, draws, choose, keys, generator) for layer, view in place.views.items()]
                for place in places
            ]
            claim = {"heavy": heavy, "bound": bound, "check": check, "epsilon": epsilon, "delta": epsilon}
            yield {"method": "vattention"} | claim | summary(offs, epsilon, check)


def _chooser(heavy: Any, bound: Any, check: Any, epsilon: float, keys: int, ops: Operations) -> Choose:
    """What chooses for repeated queries, after a view of each query once."""
    if bound == PUBLISHED:
        return lambda _, many, layer, generator: published_rule(many, keys, keys, epsilon, epsilon, generator)
    p = VAttentionParameters(
        heavy=heavy, bound=bound, check=check, heavy_budget=keys, base_budget=keys, epsilon=epsilon, delta=epsilon
    )

    def choose(view: View, many: View, layer: int, generator: torch.Generator) -> Verified:
        method = VAttention(p, layer, view.q.shape[-1], ops)
        method.add(seen_keys(view))
        return method.select(many, generator)

    return choose


def _off(view: View, layer: int, draws: int, choose: Choose, base: int, generator: torch.Generator) -> Off:
    many = repeated(view, draws)
    chosen = choose(view, many, layer, generator)
    whole, total = (part.repeat_interleave(draws, 1) for part in exactly(view))
    found = Off.of(many, chosen, (whole, total), chosen.budget, chosen.budget > base)
    return Off(*(part.unflatten(1, (-1, draws)) for part in vars(found).values()))


def exactly(view: View) -> tuple[torch.Tensor, torch.Tensor]:
    """Numerator [Hkv, G, d] and denominator [Hkv, G] of attention to everything."""
    everything = torch.ones_like(view.scores)
    return view.estimate(Chosen(everything.long(), everything))


def summary(offs: list[list[Off]], epsilon: float, check: str) -> dict[str, Any]:
    """Figures of a claim's record, of draws by position and layer."""
    stacked = Off(*(torch.stack([torch.stack([getattr(off, name) for off in layers]) for layers in offs])
                    for name in Off.__dataclass_fields__))  # fmt: skip
    beyond = {name: (getattr(stacked, name) > epsilon).double() for name in ("denominator", "output")}
    checked = beyond["output" if check == "both" else "denominator"]  # [positions, layers, Hkv, G, R]
    share, low, high = clustered(checked.flatten(1).mean(1).tolist())
    budget = stacked.budget.double()
    asked = stacked.asked.double().mean(-1) > 0.5
    return {
        "violations": share, "violations_low": low, "violations_high": high,
        "worst_head": float(checked.mean((0, 4)).max()),
        "asked": float(asked.double().mean()),
        "asked_violations": float(checked[asked].mean()) if asked.any() else None,
        "beyond_denominator": float(beyond["denominator"].mean()), "beyond_output": float(beyond["output"].mean()),
        "density": float(stacked.density.double().mean()),
        "budget_median": float(budget.median()), "budget_p95": float(np.quantile(budget.numpy(), 0.95)),
        "draws": checked.numel(),
    }  # fmt: skip
