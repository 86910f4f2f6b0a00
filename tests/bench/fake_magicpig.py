"""Stands in for MagicPIG's `lsh` and `sparse_attention_cpu`: the same calls in torch, on one thread."""

from __future__ import annotations

import math
import types

import torch


class LSH:
    """Tables as sorted codes and their order."""

    def alloc(self, K, L, layers, heads, kv_heads, batch, capacity):
        self.group = heads // kv_heads
        self.filled = {}

    def fill(self, layer, request, sorted_codes, order):
        assert (sorted_codes.dtype, order.dtype) == (torch.int16, torch.int32)
        assert (sorted_codes.diff(dim=-1) >= 0).all()
        self.filled[layer] = sorted_codes.clone(), order.clone()

    def batch_retrieve(self, layer, codes, ids, count):
        for head in range(codes.shape[0]):
            hits = torch.zeros(ids.shape[1], dtype=torch.int32)
            for table, code in enumerate(codes[head].tolist()):
                hits[self.bucket(layer, head // self.group, table, code)] += 1
            found = (hits >= 2).nonzero().squeeze(1)
            ids[head, : len(found)] = found.int()
            count[head] = len(found)

    def bucket(self, layer, kv_head, table, code):
        if layer not in self.filled:
            return torch.empty(0, dtype=torch.int64)
        codes, order = (part[kv_head, table] for part in self.filled[layer])
        return order[codes == code].long()


class SparseAttentionServer:
    """Keys, values and norms, attended with weights 1 / (u + 1e-4) and an lse to base 2."""

    offset = 1e-4

    def alloc(self, layers, heads, kv_heads, head_dim, batch, capacity):
        self.group = heads // kv_heads
        self.filled = {}

    def fill(self, layer, request, keys, values, norms):
        assert (keys.dtype, values.dtype, norms.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
        self.filled[layer] = keys.clone(), values.clone(), norms.clone()

    def attention_wrapper(self, layer, K, L, out, max_and_lse, q, q_norms, ids, count):
        for head in range(q.shape[0]):
            chosen = ids[head, : count[head]].long()
            if len(chosen):
                keys, values, norms = (part[head // self.group, chosen].float() for part in self.filled[layer])
                products = keys @ q[head].float()
                agreement = 1 - torch.acos(products / (q_norms[head] * norms)) / math.pi
                miss = 1 - agreement**K
                inclusion = 1 - miss ** (L - 1) * (L * agreement**K + miss)
                logits = products / math.sqrt(q.shape[1]) - (inclusion + self.offset).log()
                out[head] = (logits.softmax(0) @ values).bfloat16()
                max_and_lse[1, head] = logits.logsumexp(0) / math.log(2)


def modules(tables: type = LSH, server: type = SparseAttentionServer) -> dict[str, types.ModuleType]:
    """By name, to be put into sys.modules."""
    found = {name: types.ModuleType(name) for name in ("lsh", "sparse_attention_cpu")}
    vars(found["lsh"])["LSH"] = tables
    vars(found["sparse_attention_cpu"])["SparseAttentionServer"] = server
    return found
