"""draft"""
from __future__ import annotations
import math, os, threading
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import torch
from torch import Tensor

GROUPS = 32
CACHED = 2**19
def _padded(n, m): return -(-n // m) * m

_pool = None
def pool(n):
    global _pool
    if _pool is None or _pool._max_workers < n:
        _pool = ThreadPoolExecutor(n)
    return _pool

def run(call, groups, threads):
    it = iter(range(groups))
    def work():
        for g in it: call(g)
    others = [pool(threads-1).submit(work) for _ in range(min(threads, groups) - 1)]
    work()
    for o in others: o.result()

def prepare(weight, alpha, wide):
    n = weight.shape[0]
    rows, width = _padded(n, 4), _padded(n, wide)
    pad = torch.nn.functional.pad
    w = pad(weight, (0, width-n, 0, rows-n)).contiguous().view(-1).numpy()
    a = (pad(alpha, (0, width-n, 0, rows-n)) if alpha.dim()==2 else pad(alpha,(0,rows-n))).contiguous().view(-1).numpy()
    return rows, width, w, a

def common(drive, mask, weight, alpha, eta, clip, v, v0, fan, base):
    from engram.plasticity.kernels import simd
    n = weight.shape[0]
    dt = weight.numpy().dtype
    wide = simd.lanes(dt)
    rows, width, w, a = prepare(weight, alpha, wide)
    mod = v is not None
    z = np.zeros(1, dt)
    f, bs, vv = np.zeros(width, dt), np.zeros(width, dt), np.zeros(width, dt); f[:n]=1
    if mod: vv[:n] = v.reshape(-1).numpy()
    if fan is not None: f[:n] = fan.numpy(); bs[:n] = base.numpy()
    m = np.zeros(drive.shape[:2]+(0,), bool) if mask is None else mask.contiguous().numpy()
    return wide, rows, width, w, a, (z if eta is None else eta.reshape(1).numpy()), vv, (v0.reshape(1).numpy() if mod else z), f, bs, m, mod

def fwd(drive, mask, hidden, trace, weight, alpha, eta, v, v0, fan, base, clip, soft, forgets, squash, is_tanh):
    from engram.plasticity.kernels import cpu
    T,B,N = drive.shape
    wide, rows, width, w, a, e, v_, v0_, f, bs, m, mod = common(drive, mask, weight, alpha, eta, clip, v, v0, fan, base)
    out, last = torch.empty_like(drive), torch.empty_like(trace)
    k = cpu.kernel("forward", alpha.dim()==2, math.isfinite(clip), soft)
    G = min(GROUPS, B)
    args = (drive.numpy(), m, hidden.numpy(), trace.numpy(), w, a, e, clip, v_, v0_, f, bs, wide, is_tanh, mod, squash, forgets, out.numpy(), last.numpy())
    run(lambda g: k(*args, B*g//G, B*(g+1)//G), G, torch.get_num_threads())
    return out, last

def bwd(gout, glast, out, mask, hidden, trace, weight, alpha, eta, v, v0, fan, base, clip, soft, forgets, squash, is_tanh):
    from engram.plasticity.kernels import cpu
    T,B,N = out.shape
    wide, rows, width, w, a, e, v_, v0_, f, bs, m, mod = common(out, mask, weight, alpha, eta, clip, v, v0, fan, base)
    G = min(GROUPS, B)
    gd, gh, gt = torch.empty_like(out), torch.empty_like(hidden), torch.empty_like(trace)
    ga = torch.zeros(G, rows*width, dtype=out.dtype)
    ge = torch.zeros(B, dtype=out.dtype); gv0=torch.zeros(B, dtype=out.dtype)
    gv, gf, gb = (torch.zeros(B, width, dtype=out.dtype) for _ in range(3))
    k = cpu.kernel("backward", alpha.dim()==2, math.isfinite(clip), soft)
    args = (gout.numpy(), glast.numpy(), out.numpy(), m, hidden.numpy(), trace.numpy(), w, a, e, clip, v_, v0_, f, bs, wide, CACHED//out.element_size(), is_tanh, mod, squash, forgets, gd.numpy(), gh.numpy(), gt.numpy())
    rest = (ge.numpy(), gv.numpy(), gv0.numpy(), gf.numpy(), gb.numpy())
    gan = ga.numpy()
    run(lambda g: k(*args, gan[g], *rest, B*g//G, B*(g+1)//G), G, torch.get_num_threads())
    d = gd if mask is None else gd.masked_fill(mask, 0)
    pre = torch.cat((hidden[None], out[:-1]))
    gw = d.reshape(-1, N).t() @ pre.reshape(-1, N)
    galpha = ga.sum(0).view(rows, width)[:N, :N]
    if alpha.dim()==1: galpha = galpha.sum(1)
    return gd, gh, gt, gw, galpha, ge.sum(), gv.sum(0)[:N], gv0.sum(), gf.sum(0)[:N], gb.sum(0)[:N]
