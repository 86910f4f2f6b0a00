"""How many keys a scan is to draw of those that there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from truffle.kernels.codes import Codes
from truffle.model.scan_parameters import ScanParameters


@dataclass(frozen=True)
class Expected:
    """What scan_sample is told of b requests, where their codes are. A captured step reads it there, so it stays where
    it is while codes grow.

    Attributes:
        lengths: tokens that are scanned, [b] int32.
        wanted: keys expected of the proposal, [b, rows] float32.
        floor: keys expected of the uniform sample, [b] float32.
    """

    lengths: torch.Tensor
    wanted: torch.Tensor
    floor: torch.Tensor

    @staticmethod
    def allocate(batch: int, rows: int, home: torch.device) -> Expected:
        """Of nothing."""
        return Expected(
            torch.zeros(batch, dtype=torch.int32, device=home),
            torch.zeros(batch, rows, device=home),
            torch.zeros(batch, device=home),
        )

    @staticmethod
    def most(parameters: ScanParameters, n: int) -> float:
        """Keys to expect of n in all, as scan_sample adds up what it is told."""
        return float(_numbers(parameters, [n]).double().sum())

    def renew(self, parameters: ScanParameters, codes: Sequence[Codes]) -> None:
        """Expect what the parameters have of the codes that there are now, one a request."""
        keys = _numbers(parameters, [held.length for held in codes])
        self.lengths.copy_(torch.tensor([held.length for held in codes], dtype=torch.int32))
        self.wanted.copy_(keys[:, :1].expand_as(self.wanted))
        self.floor.copy_(keys[:, 1])


def _numbers(parameters: ScanParameters, lengths: Sequence[int]) -> torch.Tensor:
    """Keys to expect of the proposal and of the uniform sample, [b, 2] float32."""
    return torch.tensor([parameters.expected(n) for n in lengths], dtype=torch.float32)
