"""Triton kernels of the passes over whole spike trains: one launch each, for any T.

Tensors are rows `(T, M, C)` or `(M, C)`, contiguous, float32 or bf16. Arithmetic is float32, in the
order of the reference implementation and without contraction to fused multiply-adds, so that spikes
are those of torch. A program owns a tile of rows and channels and walks through time.

Reductions over rows leave one partial result per program. The program that arrives last at a
counter merges them in a fixed order, so that results are repeatable.
"""

from __future__ import annotations

import triton
import triton.language as tl

OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}
STAGES = tl.constexpr(4)  # timesteps in flight from memory while one is computed


@triton.jit
def _tile(row_block, M, C, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr):
    """Return a tile's first element in `(M, C)`, the offsets from it, and which of them exist."""
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    rows = tl.arange(0, BLOCK_M)
    row = row_block.to(tl.int64) * BLOCK_M
    mask = (rows < M - row)[:, None] & (channels < C)[None, :]
    return row * C, rows[:, None] * C + channels[None, :], mask


@triton.jit
def _per_channel(values, C, BLOCK_C: tl.constexpr):
    """Load this program's part of `(C,)`, as a row."""
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    return tl.load(values + channels, mask=channels < C, other=0.0)[None, :]


@triton.jit
def _store_normalised(target, y, mean, inv_std, C, mask, BLOCK_C: tl.constexpr):
    """Store `(y - mean) * inv_std`, or `y` where there is no BatchNorm."""
    if mean is not None:
        y = (y - _per_channel(mean, C, BLOCK_C)) * _per_channel(inv_std, C, BLOCK_C)
    tl.store(target, y.to(target.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["M", "T"])
def fire(
    y,
    time_mean,
    weights,
    Vth,
    mean,
    inv_std,
    gamma,
    beta,
    spikes,
    count,
    mean_u,
    mean_v,
    inside,
    above,
    M,
    C,
    T,
    decay,
    gain,
    alpha,
    ceiling,
    STATIC: tl.constexpr,
    PLAIN_SUM: tl.constexpr,
    CLOSED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Write the `spikes` `(T, M, C)`; where `count` is given, also what the backward pass needs.

    The current is `y`, plus `time_mean` `(M, C)` where given; a `STATIC` one has one step, the same
    at every t. It passes a BatchNorm where `mean, inv_std, gamma, beta` `(C,)` are given.
    `PLAIN_SUM`: `u <- u + z`. `weights` `(T,)` are given where the weighted mean over time is not
    the plain one. `spikes` may be `y`.
    """
    first, offsets, mask = _tile(tl.program_id(0), M, C, BLOCK_M, BLOCK_C)
    threshold = tl.load(Vth)
    fires_at = alpha * threshold
    if mean is not None:
        slope = _per_channel(gamma, C, BLOCK_C) * _per_channel(inv_std, C, BLOCK_C)
        offset = _per_channel(beta, C, BLOCK_C) - _per_channel(mean, C, BLOCK_C) * slope
    if time_mean is not None:
        centre = tl.load(time_mean + first + offsets, mask=mask, other=0.0)
        centre_z = centre
        if mean is not None:
            centre_z = centre * slope + offset
    u = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    total_u = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    total_v = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    fired_times = tl.zeros((BLOCK_M, BLOCK_C), tl.int32)
    step = M.to(tl.int64) * C
    source, target = y + first, spikes + first
    if STATIC:
        current = tl.load(source + offsets, mask=mask, other=0.0).to(tl.float32)
    for t in tl.range(0, T, num_stages=STAGES):
        if not STATIC:
            current = tl.load(source + offsets, mask=mask, other=0.0).to(tl.float32)
            source += step
            if time_mean is None:
                total_u += current
            if weights is not None:
                total_v += tl.load(weights + t) * current
        z = current
        if mean is not None:
            z = current * slope
        if time_mean is not None:
            z += centre_z
        elif mean is not None:
            z += offset
        if PLAIN_SUM:
            u += z
        else:
            u = decay * u + gain * z
        fired = u >= fires_at
        u = tl.where(fired, u - threshold, u)
        ones = tl.where(fired, 1.0, 0.0).to(spikes.dtype.element_ty)
        tl.store(target + offsets, ones, mask=mask)
        target += step
        fired_times += fired.to(tl.int32)
    if count is not None:
        if time_mean is not None:
            total_u = centre
            total_v += centre
        elif STATIC:
            total_u = current
        else:
            total_u = tl.div_rn(total_u, T.to(tl.float32))
        x = total_u
        if weights is not None:
            x = total_v
            _store_normalised(mean_v + first + offsets, x, mean, inv_std, C, mask, BLOCK_C)
        _store_normalised(mean_u + first + offsets, total_u, mean, inv_std, C, mask, BLOCK_C)
        tl.store(count + first + offsets, fired_times.to(count.dtype.element_ty), mask=mask)
        if mean is not None:
            x = x * slope + offset
        top = ceiling * threshold
        within = (x >= 0) & (x <= top) if CLOSED else (x > 0) & (x < top)
        tl.store(inside + first + offsets, within.to(inside.dtype.element_ty), mask=mask)
        tl.store(above + first + offsets, (x > top).to(above.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["M", "T"])
def means(
    q,
    weights,
    mean,
    inv_std,
    mean_u,
    mean_v,
    M,
    C,
    T,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Write the plain and, where `weights` are given, the weighted mean over time, normalised."""
    first, offsets, mask = _tile(tl.program_id(0), M, C, BLOCK_M, BLOCK_C)
    total_u = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    total_v = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    step = M.to(tl.int64) * C
    source = q + first
    for t in tl.range(0, T, num_stages=STAGES):
        current = tl.load(source + offsets, mask=mask, other=0.0).to(tl.float32)
        total_u += current
        if weights is not None:
            total_v += tl.load(weights + t) * current
        source += step
    if mean_u is not None:
        total_u = tl.div_rn(total_u, T.to(tl.float32))
        _store_normalised(mean_u + first + offsets, total_u, mean, inv_std, C, mask, BLOCK_C)
    if weights is not None:
        _store_normalised(mean_v + first + offsets, total_v, mean, inv_std, C, mask, BLOCK_C)


@triton.jit(do_not_specialize=["M", "T"])
def add(
    y,
    a,
    scale,
    shift,
    M,
    C,
    T,
    a_step,
    PER_CHANNEL: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """`y <- y + scale * a + shift`, rounded once.

    `a_step` is the distance between the steps of `a`: 0 where one step serves all of `y`. `scale`
    is `(C,)` where `PER_CHANNEL`, else one number.
    """
    first, offsets, mask = _tile(tl.program_id(0), M, C, BLOCK_M, BLOCK_C)
    factor = _per_channel(scale, C, BLOCK_C) if PER_CHANNEL else tl.load(scale)
    step = M.to(tl.int64) * C
    target, source = y + first, a + first
    for _ in tl.range(0, T, num_stages=STAGES):
        term = tl.load(source + offsets, mask=mask, other=0).to(tl.float32) * factor
        if shift is not None:
            term += _per_channel(shift, C, BLOCK_C)
        total = tl.load(target + offsets, mask=mask, other=0.0).to(tl.float32) + term
        tl.store(target + offsets, total.to(y.dtype.element_ty), mask=mask)
        target += step
        source += a_step


@triton.jit(do_not_specialize=["M", "T", "blocks"])
def statistics(
    y,
    time_mean,
    mean,
    var,
    partial,
    arrivals,
    M,
    C,
    T,
    blocks,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    MERGE: tl.constexpr,
):
    """Write mean and biased variance per channel; where `time_mean` is given, centre `y` about it.

    Each program reduces `blocks` blocks of rows. Squared deviations are summed about running means
    (over time: Youngs and Cramer 1971; over rows and programs: Chan et al. 1979), so that a mean
    far from zero costs no digits. `partial` is `(2, programs, C)`; `arrivals` holds a zero per
    block of channels, before and afterwards.
    """
    step = M.to(tl.int64) * C
    duration = T.to(tl.float32)
    seen = 0.0
    centre = tl.zeros((1, BLOCK_C), tl.float32)
    squares = tl.zeros((1, BLOCK_C), tl.float32)
    for block in range(blocks):
        row_block = tl.program_id(0) * blocks + block
        first, offsets, mask = _tile(row_block, M, C, BLOCK_M, BLOCK_C)
        total = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
        deviations = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
        source = y + first
        for t in tl.range(0, T, num_stages=STAGES):
            current = tl.load(source + offsets, mask=mask, other=0.0).to(tl.float32)
            total += current
            distance = (t + 1.0) * current - total
            deviations += distance * distance / tl.maximum(t * (t + 1.0), 1.0)
            source += step
        average = tl.div_rn(total, duration)
        if time_mean is not None:
            tl.store(time_mean + first + offsets, average, mask=mask)
            target = y + first
            for _ in tl.range(0, T, num_stages=STAGES):
                current = tl.load(target + offsets, mask=mask, other=0.0).to(tl.float32)
                tl.store(target + offsets, (current - average).to(y.dtype.element_ty), mask=mask)
                target += step
        rows = tl.minimum(tl.maximum(M - row_block * BLOCK_M, 0), BLOCK_M).to(tl.float32)
        own = tl.sum(average, axis=0)[None, :] / tl.maximum(rows, 1.0)
        spread = tl.where(mask, average - own, 0.0)
        own_squares = tl.sum(deviations + duration * spread * spread, axis=0)[None, :]
        both = seen + rows * duration
        distance = own - centre
        centre += distance * (rows * duration / both)
        squares += own_squares + distance * distance * (seen * (rows * duration / both))
        seen = both
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    known = (channels < C)[None, :]
    programs = tl.num_programs(0)
    own = partial + tl.program_id(0) * C + channels[None, :]
    tl.store(own, centre, mask=known)
    tl.store(own + programs * C, squares, mask=known)
    if _arrives_last(arrivals):
        # All programs but the last have seen the same number of values.
        each = blocks * BLOCK_M * duration
        last = M * duration - (programs - 1) * each
        about = tl.load(partial + channels, mask=channels < C, other=0.0, cache_modifier=".cg")
        about = about[None, :]
        drift = tl.zeros((1, BLOCK_C), tl.float32)
        squares = tl.zeros((1, BLOCK_C), tl.float32)
        for start in range(0, programs, MERGE):
            part = start + tl.arange(0, MERGE)[:, None]
            found = partial + part * C + channels[None, :]
            mask = (part < programs) & known
            weight = tl.where(part == programs - 1, last, each)
            away = tl.load(found, mask=mask, other=0.0, cache_modifier=".cg") - about
            weighted = tl.where(mask, weight * away, 0.0)
            inner = tl.load(found + programs * C, mask=mask, other=0.0, cache_modifier=".cg")
            drift += tl.sum(weighted, axis=0)[None, :]
            squares += tl.sum(inner + weighted * away, axis=0)[None, :]
        drift = drift / (M * duration)
        tl.store(mean + channels[None, :], about + drift, mask=known)
        tl.store(var + channels[None, :], squares / (M * duration) - drift * drift, mask=known)


@triton.jit(do_not_specialize=["M", "T", "blocks"])
def covariance(
    y,
    q,
    result,
    partial,
    arrivals,
    M,
    C,
    T,
    blocks,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    MERGE: tl.constexpr,
):
    """Write the mean product of `y` and `q` per channel; `partial` is `(programs, C)`."""
    step = M.to(tl.int64) * C
    total = tl.zeros((1, BLOCK_C), tl.float32)
    for block in range(blocks):
        row_block = tl.program_id(0) * blocks + block
        first, offsets, mask = _tile(row_block, M, C, BLOCK_M, BLOCK_C)
        products = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
        left, right = y + first, q + first
        for _ in tl.range(0, T, num_stages=STAGES):
            a = tl.load(left + offsets, mask=mask, other=0.0).to(tl.float32)
            products += a * tl.load(right + offsets, mask=mask, other=0.0).to(tl.float32)
            left += step
            right += step
        total += tl.sum(products, axis=0)[None, :]
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    known = (channels < C)[None, :]
    programs = tl.num_programs(0)
    tl.store(partial + tl.program_id(0) * C + channels[None, :], total, mask=known)
    if _arrives_last(arrivals):
        total = tl.zeros((1, BLOCK_C), tl.float32)
        for start in range(0, programs, MERGE):
            part = start + tl.arange(0, MERGE)[:, None]
            mask = (part < programs) & known
            found = partial + part * C + channels[None, :]
            parts = tl.load(found, mask=mask, other=0.0, cache_modifier=".cg")
            total += tl.sum(parts, axis=0)[None, :]
        tl.store(result + channels[None, :], total / (M * T.to(tl.float32)), mask=known)


@triton.jit
def _arrives_last(arrivals):
    """Return whether all other programs of this block of channels have left their results."""
    tl.debug_barrier()  # the results of all threads are written
    counter = arrivals + tl.program_id(1)
    last = tl.atomic_add(counter, 1, sem="acq_rel") == tl.num_programs(0) - 1
    if last:
        tl.store(counter, 0)
    return last
