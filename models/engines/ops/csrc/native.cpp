// The passes of reference.py for CPUs: the same operations in the same order (without contraction to
// fused multiply-adds), so that spikes are equal bit for bit.
//
// A current is (T, M, C) in float or bf16. A pass works on blocks of the M*C neurons that fit into
// the first-level cache, on all T steps of one block before the next: each value is read from memory
// once, in runs of kilobytes. (One loop over neurons with T loads each, which torch.compile
// generates, touches T pages at the same offset; in bf16 it takes 2.8 times as long, see native.py.)

#include <algorithm>
#include <vector>

#include "neuron.h"

namespace {

constexpr Size kBlock = 2048;  // neurons; a few arrays of so many floats lie in the first cache

// Whole rows where a row is short, so that channels repeat alike in every block.
Size block_length(Size channels) {
    return channels >= kBlock ? channels : kBlock / channels * channels;
}

// values[c] for every neuron of a block that begins at channel 0.
std::vector<float> repeated(const float* values, Size channels, float otherwise) {
    std::vector<float> all(block_length(channels), otherwise);
    if (values)
        for (Size e = 0; e < Size(all.size()); ++e) all[e] = values[e % channels];
    return all;
}

// body(first, length, part) for every block of `total` neurons, over torch's threads. The parts do
// not depend on the number of threads.
constexpr Size kParts = 256;

template <class Body>
void for_blocks(Size total, Size channels, const Body& body) {
    const Size length = block_length(channels);
    const Size blocks = (total + length - 1) / length, parts = std::min(blocks, kParts);
#pragma omp for schedule(static)
    for (Size part = 0; part < parts; ++part)
        for (Size b = blocks * part / parts; b < blocks * (part + 1) / parts; ++b)
            body(b * length, std::min(length, total - b * length), part);
}

// Sums per channel, by part first and then in their order.
class ChannelSums {
  public:
    explicit ChannelSums(Size channels) : channels_(channels), sums_(channels * kParts) {}

    double* of_part(Size part) { return sums_.data() + channels_ * part; }

    double total(Size channel) const {
        double sum = 0;
        for (Size at = channel; at < Size(sums_.size()); at += channels_) sum += sums_[at];
        return sum;
    }

  private:
    Size channels_;
    std::vector<double> sums_;
};

// BatchNorm, none if slope is null: z = slope * y + offset, yh = (y - mean) * inv_std.
struct Affine {
    const float *mean, *inv_std, *slope, *offset;
};

template <class Spike, class Out>
struct Left {  // outputs of a neuron layer (reference.Folded); all but the spikes may be null
    Spike* spikes;
    std::uint8_t* count8;
    std::int16_t* count16;
    Out *mean_u, *mean_v;
    std::uint8_t *inside, *above;
};

template <class T>
void accumulate(float* __restrict total, const T* __restrict y, float weight, Size length) {
#pragma omp simd
    for (Size e = 0; e < length; ++e) total[e] += weight * load(y[e]);
}

// Spikes, and counts, means and masks where `left` has memory for them. A static current has one
// step; the spikes of any other may overwrite it.
template <class In, class Spike, class Out>
void fold(const In* y, const float* centre, const float* weights, Size steps, Size M, Size C,
          const Neuron<float>& d, const Affine& bn, const Left<Spike, Out>& left, int threads) {
    const Size total = M * C, block = block_length(C);
    const bool is_static = steps == 1, wants = left.inside != nullptr;
    const bool sums_u = wants && !is_static && !centre, sums_v = wants && !is_static && weights;
#pragma omp parallel num_threads(threads)
    {
        const auto slope = repeated(bn.slope, C, 1.0f), offset = repeated(bn.offset, C, 0.0f);
        const auto mean = repeated(bn.mean, C, 0.0f), inv_std = repeated(bn.inv_std, C, 1.0f);
        std::vector<float> u(block), shift(block), total_u(block), total_v(block);
        std::vector<std::int32_t> count(block);
        for_blocks(total, C, [&](Size first, Size length, Size) {
            std::fill(u.begin(), u.end(), 0.0f);
            std::fill(total_u.begin(), total_u.end(), 0.0f);
            std::fill(total_v.begin(), total_v.end(), 0.0f);
            std::fill(count.begin(), count.end(), 0);
            for (Size e = 0; e < length; ++e)
                shift[e] = centre ? centre[first + e] * slope[e] + offset[e] : offset[e];
            for (Size t = 0; t < d.timesteps; ++t) {
                const In* in = y + (is_static ? 0 : t * total) + first;
                Spike* out = left.spikes + t * total + first;
                integrate(u.data(), in, slope.data(), shift.data(), d, length);
                if (sums_u) accumulate(total_u.data(), in, 1.0f, length);
                if (sums_v) accumulate(total_v.data(), in, weights[t], length);
                fire<true>(u.data(), out, count.data(), d, length);  // last: `out` may be `in`
            }
            if (!wants) return;
            for (Size e = 0; e < length; ++e) {
                const Size at = first + e;
                float mean_u = is_static ? load(y[at]) : total_u[e] / float(d.timesteps);
                float mean_v = total_v[e];
                if (centre) {
                    mean_u = centre[at];
                    mean_v = centre[at] + total_v[e];
                }
                float x = is_static || !weights ? mean_u : mean_v;
                if (bn.slope) x = x * slope[e] + offset[e];
                left.inside[at] = d.closed ? x >= 0 && x <= d.ceiling : x > 0 && x < d.ceiling;
                left.above[at] = x > d.ceiling;
                store(left.mean_u + at, (mean_u - mean[e]) * inv_std[e]);
                if (left.mean_v) store(left.mean_v + at, (mean_v - mean[e]) * inv_std[e]);
                if (left.count8)
                    left.count8[at] = std::uint8_t(count[e]);
                else
                    left.count16[at] = std::int16_t(count[e]);
            }
        });
    }
}

// y_u, and mean and biased variance per channel; with `centres`, y_t <- y_t - y_u in place.
template <class T>
void statistics(T* y, float* time_mean, float* mean, float* var, Size steps, Size M, Size C,
                bool centres, int threads) {
    const Size total = M * C, block = block_length(C);
    ChannelSums sums(C), squares(C), spread(C);
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> m(block), within(block);
        for_blocks(total, C, [&](Size first, Size length, Size part) {
            double *s = sums.of_part(part), *q = squares.of_part(part), *w = spread.of_part(part);
            std::fill(m.begin(), m.end(), 0.0f);
            std::fill(within.begin(), within.end(), 0.0f);
            for (Size t = 0; t < steps; ++t) {
                const T* in = y + t * total + first;
#pragma omp simd
                for (Size e = 0; e < length; ++e) m[e] += load(in[e]);
            }
            for (Size e = 0; e < length; ++e) m[e] /= float(steps);
            for (Size t = 0; t < steps; ++t) {
                T* in = y + t * total + first;
#pragma omp simd
                for (Size e = 0; e < length; ++e) {
                    const float d = load(in[e]) - m[e];
                    within[e] += d * d;
                    if (centres) store(in + e, d);
                }
            }
            if (time_mean) std::copy_n(m.data(), length, time_mean + first);
            for (Size r = 0; r < length; r += C) {
                for (Size c = 0; c < C; ++c) {
                    const double value = m[r + c];
                    s[c] += value;
                    q[c] += value * value;
                    w[c] += within[r + c];
                }
            }
        });
    }
    for (Size c = 0; c < C; ++c) {
        const double mu = sums.total(c) / M;
        mean[c] = float(mu);
        const double between = std::max(0.0, squares.total(c) / M - mu * mu);
        var[c] = float(between + spread.total(c) / (double(M) * steps));
    }
}

// y <- y + scale * a + shift, rounded once; scale has one value or one per channel, shift one per
// channel or none. Packed spikes are bytes.
template <class T, class A>
void add(T* y, const A* a, const float* scale, Size scales, const float* shift, Size rows, Size C,
         int threads) {
#pragma omp parallel num_threads(threads)
    {
        auto by = repeated(scales == C ? scale : nullptr, C, scale[0]);
        const auto plus = repeated(shift, C, 0.0f);
        for_blocks(rows * C, C, [&](Size first, Size length, Size) {
            T* to = y + first;
            const A* from = a + first;
            if (shift) {
#pragma omp simd
                for (Size e = 0; e < length; ++e)
                    store(to + e, load(to[e]) + (load(from[e]) * by[e] + plus[e]));
            } else {
#pragma omp simd
                for (Size e = 0; e < length; ++e)
                    store(to + e, load(to[e]) + load(from[e]) * by[e]);
            }
        });
    }
}

// Convert spikes from one type to another.
template <class From, class To>
void recode(const From* from, To* to, Size length, int threads) {
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (Size e = 0; e < length; ++e) to[e] = from[e] != From(0) ? kSpike<To> : To(0);
}

// <<y * q>> per channel over all rows.
template <class T>
void covariance(const T* y, const T* q, float* result, Size rows, Size C, int threads) {
    ChannelSums sums(C);
#pragma omp parallel num_threads(threads)
    {
        for_blocks(rows * C, C, [&](Size first, Size length, Size part) {
            double* s = sums.of_part(part);
            for (Size r = first; r < first + length; r += C)
                for (Size c = 0; c < C; ++c) s[c] += double(load(y[r + c]) * load(q[r + c]));
        });
    }
    for (Size c = 0; c < C; ++c) result[c] = float(sums.total(c) / rows);
}

// g = factor * (R * inside); returns the sum of R * above. Masks are bits, eight to a byte.
double fire_grad(const float* R, const std::uint8_t* inside, const std::uint8_t* above,
                 float factor, float* g, Size length, int threads) {
    std::array<double, kParts> sums{};
    const Size bytes = length / 8;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (Size part = 0; part < kParts; ++part) {
        double sum[8] = {};
        for (Size at = bytes * part / kParts; at < bytes * (part + 1) / kParts; ++at) {
            const auto &in = kBitValues<float>[inside[at]], &over = kBitValues<float>[above[at]];
            for (Size b = 0; b < 8; ++b) {
                g[8 * at + b] = factor * (R[8 * at + b] * in[b]);
                sum[b] += R[8 * at + b] * over[b];
            }
        }
        for (const double s : sum) sums[part] += s;
    }
    double total = 0;
    for (const double s : sums) total += s;
    return total;
}

// Per channel, the sums of g and of g * mean_u.
template <class T>
void norm_sums(const float* g, const T* mean_u, float* total, float* dot, Size rows, Size C,
               int threads) {
    ChannelSums totals(C), dots(C);
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> sum(C), product(C);
        for_blocks(rows * C, C, [&](Size first, Size length, Size part) {
            std::fill(sum.begin(), sum.end(), 0.0f);
            std::fill(product.begin(), product.end(), 0.0f);
            for (Size r = first; r < first + length; r += C) {
#pragma omp simd
                for (Size c = 0; c < C; ++c) {
                    sum[c] += g[r + c];
                    product[c] += g[r + c] * load(mean_u[r + c]);
                }
            }
            double *s = totals.of_part(part), *p = dots.of_part(part);
            for (Size c = 0; c < C; ++c) s[c] += sum[c], p[c] += product[c];
        });
    }
    for (Size c = 0; c < C; ++c) total[c] = float(totals.total(c)), dot[c] = float(dots.total(c));
}

// dy = slope * (g - m1) - tilt * mean, for both means or, where mean_v is null, the first.
template <class T>
void norm_grad(const float* g, const T* mean_u, const T* mean_v, const float* m1,
               const float* slope, const float* tilt, float* dy_u, float* dy_v, Size rows, Size C,
               int threads) {
#pragma omp parallel num_threads(threads)
    {
        const auto m = repeated(m1, C, 0.0f), a = repeated(slope, C, 0.0f);
        const auto b = repeated(tilt, C, 0.0f);
        for_blocks(rows * C, C, [&](Size first, Size length, Size) {
            const float* from = g + first;
            const T* u = mean_u + first;
            float* to = dy_u + first;
#pragma omp simd
            for (Size e = 0; e < length; ++e) to[e] = a[e] * (from[e] - m[e]) - b[e] * load(u[e]);
            if (!mean_v) return;
            const T* v = mean_v + first;
            to = dy_v + first;
#pragma omp simd
            for (Size e = 0; e < length; ++e) to[e] = a[e] * (from[e] - m[e]) - b[e] * load(v[e]);
        });
    }
}

}  // namespace

#define EXPORT_FOLD(In, in, Spike, spike, Out, out)                                               \
    extern "C" void fold_##in##_##spike##_##out(                                                  \
        const In* y, const float* centre, const float* weights, Size steps, Size M, Size C,       \
        Size timesteps, float decay, float gain, float threshold, float Vth, float ceiling,       \
        bool perfect, bool closed, const float* mean, const float* inv_std, const float* slope,   \
        const float* offset, Spike* spikes, std::uint8_t* count8, std::int16_t* count16,          \
        Out* mean_u, Out* mean_v, std::uint8_t* inside, std::uint8_t* above, int threads) {       \
        const Neuron<float> d{timesteps, decay, gain, threshold, Vth, ceiling, perfect, closed};  \
        fold<In, Spike, Out>(y, centre, weights, steps, M, C, d, {mean, inv_std, slope, offset},  \
                             {spikes, count8, count16, mean_u, mean_v, inside, above}, threads);  \
    }

#define EXPORT_ADD(T, suffix, A, of)                                                              \
    extern "C" void add_##suffix##_##of(T* y, const A* a, const float* scale, Size scales,        \
                                        const float* shift, Size rows, Size C, int threads) {     \
        add<T, A>(y, a, scale, scales, shift, rows, C, threads);                                  \
    }

#define EXPORT_RECODE(From, from_, To, to_)                                                       \
    extern "C" void recode_##from_##_##to_(const From* from, To* to, Size length, int threads) {  \
        recode<From, To>(from, to, length, threads);                                              \
    }

#define EXPORT(T, suffix)                                                                         \
    extern "C" void statistics_##suffix(T* y, float* time_mean, float* mean, float* var,          \
                                        Size steps, Size M, Size C, bool centres, int threads) {  \
        statistics<T>(y, time_mean, mean, var, steps, M, C, centres, threads);                    \
    }                                                                                             \
    EXPORT_ADD(T, suffix, T, suffix)                                                              \
    EXPORT_ADD(T, suffix, std::uint8_t, uint8)                                                    \
    EXPORT_RECODE(T, suffix, std::uint8_t, uint8)                                                 \
    EXPORT_RECODE(std::uint8_t, uint8, T, suffix)                                                 \
    extern "C" void covariance_##suffix(const T* y, const T* q, float* result, Size rows, Size C, \
                                        int threads) {                                            \
        covariance<T>(y, q, result, rows, C, threads);                                            \
    }                                                                                             \
    extern "C" void norm_sums_##suffix(const float* g, const T* mean_u, float* total, float* dot, \
                                       Size rows, Size C, int threads) {                          \
        norm_sums<T>(g, mean_u, total, dot, rows, C, threads);                                    \
    }                                                                                             \
    extern "C" void norm_grad_##suffix(const float* g, const T* mean_u, const T* mean_v,          \
                                       const float* m1, const float* slope, const float* tilt,    \
                                       float* dy_u, float* dy_v, Size rows, Size C, int threads) {\
        norm_grad<T>(g, mean_u, mean_v, m1, slope, tilt, dy_u, dy_v, rows, C, threads);           \
    }

extern "C" void fire_grad(const float* R, const std::uint8_t* inside, const std::uint8_t* above,
                          float factor, float* g, float* sum, Size length, int threads) {
    *sum = float(fire_grad(R, inside, above, factor, g, length, threads));
}

EXPORT_FOLD(float, float32, float, float32, float, float32)
EXPORT_FOLD(float, float32, bf16, bfloat16, bf16, bfloat16)
EXPORT_FOLD(bf16, bfloat16, bf16, bfloat16, bf16, bfloat16)
EXPORT_FOLD(float, float32, std::uint8_t, uint8, float, float32)
EXPORT_FOLD(float, float32, std::uint8_t, uint8, bf16, bfloat16)
EXPORT_FOLD(bf16, bfloat16, std::uint8_t, uint8, bf16, bfloat16)
EXPORT(float, float32)
EXPORT(bf16, bfloat16)
