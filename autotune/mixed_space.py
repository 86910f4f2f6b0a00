"""The search space of several methods: lsh's is space.py's, and of the others each has its own parameters."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import optuna

from truffle.autotune import method_space, scan_space
from truffle.autotune.baselines import MOST_BATCH
from truffle.autotune.space import Space
from truffle.model.config import DecodeConfig, LshParameters

LSH = LshParameters.method


@dataclass(frozen=True)
class MixedSpace(Space):
    """A space in which the method is chosen too. With lsh alone it is lsh's, trial for trial.

    Attributes:
        methods: those to choose from.
    """

    methods: tuple[str, ...] = (LSH,)

    @property
    def marks(self) -> dict[str, Any]:
        """See `Space`; a method's own ranges under its name."""
        ranges = {name: str(method_space.RANGES[name]) for name in self._others}
        return {**super().marks, **ranges, "codes": scan_space.places(self) if scan_space.SCAN in self.methods else ()}

    def first_points(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Those of lsh, then every other method as it is by default, scan also filling the card."""
        if LSH in self.methods:
            yield from ((origin, {**self._choice(LSH), **point}) for origin, point in super().first_points())
        for method in self._others:
            yield from ((origin, {**self._choice(method), **point}) for origin, point in self._planned(method))

    def suggest(self, trial: optuna.Trial) -> DecodeConfig:
        """A point as the sampler asks for it: the method, and then only what makes a difference to that one."""
        method = LSH if self.methods == (LSH,) else trial.suggest_categorical("method", self.methods)
        if method == LSH:
            return super().suggest(trial)
        if method == scan_space.SCAN:
            return self.config({"method": method, **scan_space.suggested(self, trial)})
        point = {"method": method, **method_space.suggested_point(trial, method)}
        point["batch_size"] = trial.suggest_int("batch_size", 1, self.most_batch, log=True)
        if self._asks_threads(method):
            point["threads"] = trial.suggest_int("threads", 0, len(self.threads) - 1)
        return self.config(point)

    def _planned(self, method: str) -> Iterator[tuple[str, dict[str, Any]]]:
        if method == scan_space.SCAN:
            return scan_space.planned(self)
        threads = {"threads": len(self.threads) - 1} if self._asks_threads(method) else {}
        return iter([("method", {**method_space.default_point(method), "batch_size": 1, **threads})])

    def config(self, point: dict[str, Any]) -> DecodeConfig:
        """The decode config of a point; a method without kernels has a batch and threads to be run with, no more."""
        method = point.get("method", LSH)
        if method == LSH:
            return super().config(point)
        if method == scan_space.SCAN:
            return scan_space.config(self, point)
        parameters = method_space.point_parameters(method, point, self.seed)
        return DecodeConfig(parameters=parameters, execution=self.execution(point))

    @functools.cached_property
    def most_batch(self) -> int:
        """The largest batch for which the smallest index fits, or another method as it is by default, 1 at least."""
        return max([super().most_batch] * (LSH in self.methods) + [self._most_batch_of(m) for m in self._others])

    def _most_batch_of(self, method: str) -> int:
        point = {"method": method, **method_space.default_point(method)}
        for batch in range(MOST_BATCH, 1, -1):
            ways = [{**point, "batch_size": batch, "fill_vram": fill} for fill in (False, True)]
            if any(self._shortage(self.config(way)) is None for way in ways):
                return batch
        return 1

    @property
    def _others(self) -> tuple[str, ...]:
        return tuple(method for method in self.methods if method != LSH)

    def _choice(self, method: str) -> dict[str, Any]:
        return {} if self.methods == (LSH,) else {"method": method}

    def _asks_threads(self, method: str) -> bool:
        """Whether the host has a part in a step: by itself, or in place of a card that is not here."""
        return self.target.gpu is None or (method_space.is_reference(method) and not self.target.is_here)
