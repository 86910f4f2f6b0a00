"""A card's profile with what a calibration measured on such a card in place of what was assumed."""

from __future__ import annotations

from typing import Any

from truffle.bench.bandwidth import HostCalibration
from truffle.bench.device_bandwidth import DeviceRates
from truffle.kernels.profiles import GpuProfile


def with_measured(gpu: GpuProfile, calibration: HostCalibration | None) -> GpuProfile:
    """`gpu` with the calibrated device's figures where that is this card; `gpu` itself where it is not."""
    device = calibration and calibration.device
    if not device or not calibration or not gpu.is_card(device.name):
        return gpu
    source = f"calibrated on {device.name}, {calibration.created[:10]}"
    update: dict[str, Any] = {}
    for name, value in _figures(gpu, device).items():
        update[name] = type(getattr(gpu, name))(value=value, kind="measured", source=source)
    return gpu.model_copy(update=update)


def _figures(gpu: GpuProfile, device: DeviceRates) -> dict[str, float]:
    memory, link = gpu.memory_bandwidth_bytes_per_s.value, gpu.link_bandwidth_bytes_per_s.value
    largest = max(point.size_bytes for point in device.link)
    smallest = min(point.size_bytes for point in device.link)
    rate = min(point.bytes_per_s for point in device.link if point.size_bytes == largest)
    waited = max(point.latency_s.p50 for point in device.link if point.size_bytes == smallest)
    found = {
        "memory_efficiency": min(1.0, device.memory_copy_bytes_per_s.p50 / memory),
        "link_efficiency": min(1.0, rate / link),
        "link_latency_s": waited,
    }
    if device.product_bytes_per_s:
        found["product_efficiency"] = min(1.0, device.product_bytes_per_s.p50 / memory)
    if device.layer_kernel_latency_s and device.scan_bytes_per_s:  # a rate beside that latency, and beside no other
        found["kernel_latency_s"] = device.layer_kernel_latency_s.p50
        found["scan_efficiency"] = min(1.0, device.scan_bytes_per_s.p50 / memory)
    return found
