"""The gate behind which parts of a step are launched ahead."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from truffle.kernels.linked import shared
from truffle.model.gate import Gate
from truffle.model.graphs import CapturedScript, rehearse
from truffle.model.staging import Arrival

pytestmark = pytest.mark.gpu


def test_what_is_behind_a_gate_waits_and_sees_what_the_host_wrote_before_it_opened():
    device = torch.device("cuda")
    there, here = shared((1000,), torch.float32, device)
    answer, answer_here = shared((1000,), torch.float32, device)
    gate, arrival, held = Gate(), Arrival(device), False

    def program() -> Iterator[None]:
        if held:
            gate.hold()
        torch.mul(there, 2, out=answer)
        yield

    rehearse(program)
    held = True
    script = CapturedScript(program)
    answer_here.fill_(-1)
    for turn in range(200):
        script.begin()
        script.advance()
        arrival.mark()
        time.sleep(0.0005)
        assert not arrival._event.query()
        assert answer_here[0] == (-1 if turn == 0 else 2 * (turn - 1))
        here.fill_(turn)
        gate.open()
        arrival.wait()
        assert torch.equal(answer_here, torch.full((1000,), 2.0 * turn))


def test_a_gate_counts_on_where_its_number_wraps():
    gate = Gate()
    torch.cuda.synchronize()
    gate._turns = 2**31 - 2
    gate._turn.fill_(2**31 - 2)
    for _ in range(4):
        gate.hold()
        gate.open()
    torch.cuda.synchronize()
    assert gate._turn.item() == -(2**31) + 2


def test_memory_that_is_shared_has_one_address_on_both_sides():
    there, here = shared((2, 3), torch.uint16, torch.device("cuda"))
    assert there.is_cuda
    assert there.data_ptr() == here.data_ptr()
    here.copy_(torch.arange(6).view(2, 3).to(torch.uint16))
    assert torch.equal(there.cpu(), here)
