"""Who decodes a workload on the same weights and keys: ours, MagicPIG's kernels in our pipeline, and exact rivals."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch

from truffle.bench import vram, whole_step
from truffle.bench.kinds import layer_kinds
from truffle.bench.magicpig import decoding, extensions
from truffle.bench.magicpig import gate as magicpig_gate
from truffle.bench.magicpig.decoding import MagicPigLayer
from truffle.bench.rivals.conveyor import Conveyor
from truffle.bench.rivals.hosted import HostedLayer
from truffle.bench.rivals.split import SplitLayer
from truffle.bench.rivals.streamed import STAGING_BYTES, StreamedLayer
from truffle.bench.timing import layers_beyond_cache
from truffle.bench.workloads import Workload
from truffle.model.cache import GROW_SLOTS
from truffle.model.config import DecodeConfig, DenseParameters, LshParameters
from truffle.model.llama import Decoder
from truffle.model.operations import DEVICE_OPS, Operations
from truffle.model.weights import Weights

OURS, MAGICPIG = "truffle", "magicpig_v02 kernels"
ON_DEVICE, STREAMED, BESIDE, ON_HOST = "exact: device", "exact: streamed", "exact: device and host", "exact: host"


MakeLayer = Callable[[int], SplitLayer]  # by number


@dataclass(frozen=True)
class Ground:
    """What all contenders share.

    Attributes:
        keys, values: [Hkv, n, d] on the host, read by every request of every layer.
        room_bytes: of the device, for a contender beside the weights.
    """

    workload: Workload
    weights: Weights
    keys: torch.Tensor
    values: torch.Tensor
    room_bytes: int

    @property
    def token_bytes(self) -> int:
        """Keys and values of a token over all layers."""
        return self.workload.shape.kv_bytes_per_token(self.keys.element_size())

    def on_device(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Copies of keys and values."""
        device = self.weights.device
        return self.keys.to(device), self.values.to(device)


@dataclass(frozen=True)
class Contender:
    """One way to decode.

    Attributes:
        config: what its decoder is built with.
        exact: whether it attends to everything.
        device_bytes: what it needs of the device beside the weights.
        building_bytes: what it needs of the device in passing, while it is built.
        build: makes a decoder that has read the context.
        reason: why it is not built, or None.
        figures: more for its record.
    """

    name: str
    config: DecodeConfig
    exact: bool
    device_bytes: int
    building_bytes: int
    build: Callable[[], Decoder]
    reason: str | None
    figures: dict[str, Any]


def contenders(ground: Ground, configs: Sequence[DecodeConfig]) -> list[Contender]:
    """Ours under each of `configs`, which differ in how sampled keys are stored, and all rivals of the same batch."""
    filled = itertools.chain(*(_filled(ground, config) for config in configs))
    ours = [*(_ours(ground, config) for config in configs), *filled]
    return [*ours, *_magicpig(ground, configs[0]), *_exact(ground, configs[0])]


def _filled(ground: Ground, config: DecodeConfig) -> list[Contender]:
    """Ours with what is left of the device taken by more dense layers, where there is enough for one."""
    shape, element = ground.workload.shape, ground.keys.element_size()
    room = ground.room_bytes - vram.building_bytes(shape, ground.workload.context, element) + shape.parameters * element
    more = vram.filled(shape, config, ground.workload.context, room, element)
    return [_ours(ground, more, ", filled")] if more is not config else []


def _ours(ground: Ground, config: DecodeConfig, how: str = "") -> Contender:
    shape, element = ground.workload.shape, ground.keys.element_size()
    needed = vram.static_bytes(shape, config, ground.workload.context, element) - shape.parameters * element

    def build() -> Decoder:
        decoder = Decoder(shape, ground.weights, config)
        whole_step.fill(decoder, *ground.on_device())
        return decoder

    building = vram.building_bytes(shape, ground.workload.context, element)
    reason = _why_not(needed + building, ground)
    name = f"{OURS} {config.execution.store_format}{how}"
    figures = {"dense_layers": layer_kinds(shape, config).dense}
    return Contender(name, config, False, needed, building, build, reason, figures)


def _magicpig(ground: Ground, config: DecodeConfig) -> list[Contender]:
    """MagicPIG's kernels where they are installed and the method is theirs."""
    p, batch, context = config.parameters, config.execution.batch_size, ground.workload.context
    if not isinstance(p, LshParameters) or p.family != "simhash" or not extensions.is_installed():
        return []
    shape, element = ground.workload.shape, ground.keys.element_size()
    seals_nothing = config.model_copy(update={"parameters": p.model_copy(update={"seal_tokens": GROW_SLOTS})})
    needed = vram.static_bytes(shape, seals_nothing, context, element) - shape.parameters * element
    # Centred keys of the batch; codes, sorted codes and their order of one request.
    building = context * (batch * ground.token_bytes // shape.layers + 12 * shape.kv_heads * p.L)
    sizes = decoding.sizes(shape, p, batch, context)
    reason = extensions.why_not(sizes, config.execution.threads) or _why_not(needed + building, ground)
    problem = None if reason else _gate(decoding.sizes(shape, p, 1, context), config.execution.threads)
    verdict = f"failed: {problem}" if problem else reason

    def layers(decoder: Decoder) -> MakeLayer:
        return lambda index: MagicPigLayer(p, index, shape, decoder.ops)

    distinct = layers_beyond_cache(batch * context * ground.token_bytes // shape.layers)
    own = config.execution.model_copy(update={"micro_batches": 1, "store_format": "bfloat16"})
    theirs = config.model_copy(update={"execution": own})
    build = partial(_split_decoder, ground, theirs, layers, distinct, p.dense_layers)
    return [Contender(MAGICPIG, theirs, False, needed, building, build, verdict, {})]


_gate = cache(magicpig_gate.check)  # takes seconds, and no batch changes what it finds


def _exact(ground: Ground, config: DecodeConfig) -> list[Contender]:
    execution = config.execution.model_copy(update={"micro_batches": 1})
    known = {op: name for op, name in config.implementations.items() if op in DEVICE_OPS}
    exact = DecodeConfig(parameters=DenseParameters(), execution=execution, implementations=known)
    host = Operations(exact.model_copy(update={"implementations": {}}), "cpu")

    def streamed(resident: int, decoder: Decoder) -> MakeLayer:
        conveyor = Conveyor(decoder.weights.device)
        return lambda index: StreamedLayer(resident, decoder.ops, conveyor, index)

    def hosted(resident: int, decoder: Decoder) -> MakeLayer:
        return lambda index: HostedLayer(resident, decoder.ops, host)

    return [
        _all_on_device(ground, exact),
        _split(ON_HOST, ground, exact, hosted, 0, 0),
        _split(BESIDE, ground, exact, hosted, ground.room_bytes, 0),
        _split(STREAMED, ground, exact, streamed, ground.room_bytes, STAGING_BYTES),
    ]


def _all_on_device(ground: Ground, config: DecodeConfig) -> Contender:
    context, batch = ground.workload.context, config.execution.batch_size
    needed = batch * (context + GROW_SLOTS) * ground.token_bytes

    def build() -> Decoder:
        decoder = Decoder(ground.workload.shape, ground.weights, config)
        whole_step.fill(decoder, *ground.on_device())
        return decoder

    figures = {"resident_tokens": context, "host_bytes_read": 0}
    return Contender(ON_DEVICE, config, True, needed, 0, build, _why_not(needed, ground), figures)


def _split(
    name: str,
    ground: Ground,
    config: DecodeConfig,
    layers: Callable[[int, Decoder], MakeLayer],
    room_bytes: int,
    staging_bytes: int,
) -> Contender:
    """An exact rival that keeps as many tokens on the device as `room_bytes` hold beside its staging."""
    workload, batch = ground.workload, config.execution.batch_size
    token_bytes = batch * ground.token_bytes
    resident = max(0, min(workload.context, (room_bytes - staging_bytes) // token_bytes - GROW_SLOTS))
    host_bytes = (workload.context - resident) * token_bytes
    needed = staging_bytes + (resident + GROW_SLOTS) * token_bytes
    distinct = layers_beyond_cache(max(1, host_bytes // workload.shape.layers))
    reason = _why_not(needed, ground) if host_bytes else "everything fits on the device"
    build = partial(_split_decoder, ground, config, partial(layers, resident), distinct, ())
    figures = {"resident_tokens": resident, "host_bytes_read": host_bytes}
    return Contender(name, config, True, needed, 0, build, reason, figures)


def _split_decoder(
    ground: Ground,
    config: DecodeConfig,
    layers: Callable[[Decoder], MakeLayer],
    distinct: int,
    dense_layers: Sequence[int],
) -> Decoder:
    """A decoder of such layers, `distinct` of which have host memory of their own, and of dense ones."""
    decoder = Decoder(ground.workload.shape, ground.weights, config)
    keys, values = ground.on_device()
    requests = [keys] * config.execution.batch_size, [values] * config.execution.batch_size
    make, made = layers(decoder), list[SplitLayer]()
    for index, layer in enumerate(decoder.caches):
        if index in dense_layers:
            layer.prefill(*requests)
        elif len(made) < distinct:
            decoder.caches[index] = new = make(index)
            new.prefill(*requests)
            made.append(new)
        else:
            decoder.caches[index] = made[index % distinct].twin(index)
    decoder.lengths = [ground.workload.context] * config.execution.batch_size
    return decoder


def _why_not(needed_bytes: int, ground: Ground) -> str | None:
    if needed_bytes <= ground.room_bytes:
        return None
    return f"needs {needed_bytes:,} bytes of the device beside the weights; {ground.room_bytes:,} are left"
