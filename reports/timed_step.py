"""A whole decode step as bench scaling and bench decode time it, and what of it is not the host's."""

from dataclasses import dataclass

from .method_label import method_label
from .record import Number, Text


@dataclass(frozen=True)
class Step:
    """A whole decode step, timed; the field names are the record's own."""

    method: str
    parameters: str
    batch: int
    threads: int
    tokens_per_s: Number
    file: str
    workload: Text = None
    tokens_per_s_low: Number = None
    tokens_per_s_high: Number = None
    median_us: Number = None
    context: Number = None
    wait_policy: Text = None
    micro_batches: Number = None
    store_format: Text = None
    implementations: Text = None
    dense_layers: Number = None
    sparse_layers: Number = None
    layer_us: Number = None
    layer_host_us: Number = None
    layer_weights_us: Number = None
    layer_gpu_before_us: Number = None
    layer_arrival_us: Number = None
    layer_launch_us: Number = None

    @property
    def label(self) -> str:
        """The method and how it is run."""
        words = [method_label(self.method, self.parameters)]
        words += ["int8"] if self.store_format == "int8" else []
        words += [f"{self.micro_batches} lanes"] if (self.micro_batches or 1) > 1 else []
        return ", ".join(words + (["spinning"] if self.wait_policy == "spin" else []))

    @property
    def rest_us(self) -> float | None:
        """The step with the host's answers taken out; None where they run beside the device's work."""
        if self.layer_us is None or self.layer_host_us is None or (self.micro_batches or 1) > 1:
            return None
        if self.sparse_layers is None or self.median_us is None:
            return None
        elsewhere = max(0.0, self.median_us - self.sparse_layers * self.layer_us)
        return elsewhere + self.sparse_layers * max(0.0, self.layer_us - self.layer_host_us)
