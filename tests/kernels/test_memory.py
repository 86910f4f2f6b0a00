"""Large blocks: where they lie, that they come back, and that nobody relies on what is in them."""

from __future__ import annotations

import os
import threading
import time

import pytest
import torch

pytest.importorskip("truffle.kernels.isa", reason="the native extension is not built", exc_type=ImportError)

from truffle.kernels.isa import native
from truffle.kernels.memory import HUGE_PAGE_BYTES, allocate, memory_use, release_memory
from truffle.kernels.retrieve.contract import build_segments
from truffle.kernels.store import Store

MIB = 1 << 20


@pytest.fixture(autouse=True)
def no_kept_blocks():
    release_memory()
    yield
    release_memory()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.int32, torch.uint16, torch.int8], ids=str)
def test_a_block_is_an_aligned_contiguous_tensor(dtype):
    used, _ = memory_use()
    tensor = allocate((3, 5, MIB), dtype, threads=3)
    assert tensor.shape == (3, 5, MIB)
    assert tensor.dtype == dtype
    assert tensor.is_contiguous()
    assert tensor.data_ptr() % HUGE_PAGE_BYTES == 0
    assert memory_use()[0] - used == tensor.nbytes
    tensor.view(torch.uint8).fill_(7)
    assert int(tensor.view(torch.uint8)[-1, -1, -1]) == 7


def test_small_and_empty_tensors_are_ordinary():
    before = memory_use()
    assert allocate((2, 0, 16), torch.bfloat16).shape == (2, 0, 16)
    assert allocate((HUGE_PAGE_BYTES - 1,), torch.int8).nbytes == HUGE_PAGE_BYTES - 1
    assert memory_use() == before


def test_a_block_is_kept_until_its_last_view_is_gone_and_then_reused():
    tensor = allocate((8 * MIB,), torch.int8)
    used, kept = memory_use()
    where, view = tensor.data_ptr(), tensor.view(torch.float32)[1:3]
    del tensor
    assert memory_use() == (used, kept)
    del view
    assert memory_use() == (used - 8 * MIB, kept + 8 * MIB)
    again = allocate((7 * MIB,), torch.uint8)
    assert again.data_ptr() == where
    assert memory_use() == (used, kept)


def test_a_block_that_is_much_too_large_stays():
    del_me = allocate((16 * MIB,), torch.int8)
    where = del_me.data_ptr()
    del del_me
    assert allocate((8 * MIB,), torch.int8).data_ptr() != where


def test_kept_blocks_do_not_add_to_the_most_that_was_used():
    start = memory_use()[0]
    for size in (10, 14, 20, 30, 12, 40):
        block = allocate((size * MIB,), torch.int8)
        del block
    used, kept = memory_use()
    assert used == start
    assert kept <= 40 * MIB
    assert release_memory() == kept
    assert memory_use() == (start, 0)


def test_a_size_that_cannot_be_is_a_memory_error():
    for size in (1 << 48, (1 << 63) - 4096):
        with pytest.raises(MemoryError, match=f"no memory for a block of {size} bytes"):
            native.allocate(size, 1)
    with pytest.raises(ValueError, match="bytes: expected at least 1"):
        native.allocate(0, 1)
    with pytest.raises(ValueError, match="threads: expected 1 to 4096"):
        allocate((4 * MIB,), torch.int8, threads=0)


@pytest.mark.slow
def test_more_than_32_bits_of_bytes():
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if free < 8 << 30:
        pytest.skip("needs 8 GiB of free memory")
    tensor = allocate((5, 1 << 30), torch.int8, threads=2)
    assert tensor.stride() == (1 << 30, 1)
    tensor[4, -1] = 3
    assert int(tensor.view(-1)[-1]) == 3


def test_two_threads_take_and_give_at_once():
    problems = []

    def work(mark: int) -> None:
        try:
            for turn in range(60):
                tensor = allocate((2 * MIB + turn * 65_536,), torch.uint8, threads=2)
                tensor.fill_(mark)
                assert int(tensor.min()) == int(tensor.max()) == mark
        except BaseException as error:
            problems.append(error)

    workers = [threading.Thread(target=work, args=(mark,)) for mark in (1, 2, 3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not problems


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_frees_and_takes_blocks_of_its_own():
    held = [allocate((4 * MIB,), torch.uint8).fill_(5)]
    child = os.fork()
    if child == 0:  # torch's own threads do not survive a fork, so that NumPy looks at what is there
        good = (held[0].numpy() == 5).all()
        held.clear()
        again = allocate((6 * MIB,), torch.uint8, threads=2).numpy()
        again[:] = 9
        os._exit(0 if good and again[-1] == 9 else 1)
    deadline = time.monotonic() + 60
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if done == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert done == (child, 0)
    assert int(held[0].min()) == int(held[0].max()) == 5


def poison(size: int) -> None:
    """Leave a block full of NaN bit patterns for the next to take."""
    allocate((size,), torch.uint8).fill_(0xFF)


def test_a_store_in_stale_memory_holds_what_was_put_in():
    keys, values = torch.randn(2, 2, 4000, 80, generator=torch.Generator().manual_seed(0)).bfloat16()
    want = Store.allocate(2, 4000, 80).appended(keys, values)
    poison(want.rows.nbytes)
    store = Store.allocate(2, 4000, 80)
    assert store.rows.isnan().all()
    got = store.appended(keys[:, :3990], values[:, :3990]).appended(keys[:, 3990:], values[:, 3990:])
    poison(want.rows.nbytes * 3 // 2)
    grown = got.appended(keys[:, :7], values[:, :7])
    assert grown.rows.shape[1] == 6000
    for part in (got, grown):
        assert torch.equal(part.keys[:, :4000], want.keys)
        assert torch.equal(part.values[:, :4000], want.values)


def test_tables_in_stale_memory_are_whole():
    codes = torch.randint(0, 64, (2, 8, 65_536), generator=torch.Generator().manual_seed(0)).to(torch.uint16)
    want = build_segments(codes, 6, [65_536])[0]
    copies = want.offsets.clone(), want.ids.clone()
    size = want.ids.nbytes
    del want
    poison(size)
    got = build_segments(codes, 6, [65_536])[0]
    assert torch.equal(got.offsets, copies[0])
    assert torch.equal(got.ids, copies[1])
