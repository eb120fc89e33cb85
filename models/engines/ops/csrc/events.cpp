// Convolutions of spike trains that add the weights of the spikes and skip the zeros, for CPUs.
//
// A train is bytes (B, H, W, C), channels last: zeros and ones, or small integers (pooled counts,
// totals over time), which multiply. The work grows with the number of nonzero bytes, the events.
// All sums run in an order that depends on the shapes alone, never on the number of threads.
// GCC's and Clang's vector extensions serve AVX2, AVX-512 and NEON from this one source.

#include "events_currents.h"
#include "events_gradient.h"

namespace {

// The input and the weights of a convolution.
template <class T>
struct Operands {
    Shape s;
    const Byte* p;
    const T* w;
    const Size* strides;
    bool binary;

    // Calls begin(tile) and end(tile, part number) around the convolution, see `convolve`.
    template <int N, class Begin, class End>
    void with_width(int threads, const Begin& begin, const End& end) const {
        convolve<T, N>(
            s, p, w, strides, binary, threads,
            [&](T* values, const Part& part, Size o) { begin(Tile<T, N>(s, values, part, o)); },
            [&](T* values, const Part& part, Size o) {
                end(Tile<T, N>(s, values, part, o), part.number);
            });
    }

    template <class Begin, class End>
    void convolve_tiles(int threads, const Begin& begin, const End& end) const {
        if (s.outputs * Size(sizeof(T)) <= 64)
            with_width<64 / kVectorBytes>(threads, begin, end);
        else
            with_width<256 / kVectorBytes>(threads, begin, end);
    }
};

// y <- terms + convolution
template <class T, class Current>
void sum(const Operands<T>& a, const Terms<T, Current>& terms, Current* y, int threads) {
    a.convolve_tiles(
        threads, [&](const auto& tile) { tile.begin(terms); },
        [&](const auto& tile, Size) {
            tile.add_residual(terms);
            for (Size t = 0; t < tile.steps; ++t) tile.store(t, y);
        });
}

// `sum`, with the mean and the biased variance of each channel; where `time_mean` is not null, it
// is the mean of y over time, and y is stored without it.
template <class T, class Current>
void sum_with_statistics(const Operands<T>& a, const Terms<T, Current>& terms, Current* y,
                         T* time_mean, T* mean, T* var, int threads) {
    ChannelSums sums(count_parts(a.s), a.s.outputs);
    a.convolve_tiles(
        threads, [&](const auto& tile) { tile.begin(terms); },
        [&](const auto& tile, Size part) {
            tile.add_residual(terms);
            add_statistics(tile, time_mean, sums.of_part(part) + tile.first % tile.pixel,
                           a.s.outputs);
            for (Size t = 0; t < tile.steps; ++t) tile.store(t, y);
        });
    sums.finish(a.s.steps, a.s.pixels(), mean, var);
}

// The spikes of neurons whose current is terms + convolution, which is never in memory.
template <class T, class Current>
void sum_and_fire(const Operands<T>& a, const Terms<T, Current>& terms, const T* slope,
                  const T* offset, const Neuron<T>& d, Byte* spikes, int threads) {
    a.convolve_tiles(
        threads, [&](const auto& tile) { tile.begin(terms); },
        [&](const auto& tile, Size) {
            tile.add_residual(terms);
            fire_tile(tile, slope, offset, d, spikes);
        });
}

}  // namespace

// Weights of type T; currents, and gradients at them, are `Current`.
#define OPERANDS(T, Current)                                                                      \
    const Size *shape, const Byte *p, const T *w, const Size *strides, bool binary, const T *bias, \
        const Current *start, const Byte *residual, bool bits, double amplitude

#define EXPORT(T, Current, suffix)                                                                \
    extern "C" void sum_##suffix(OPERANDS(T, Current), Current* y, int threads) {                 \
        sum<T, Current>({Shape(shape), p, w, strides, binary},                                    \
                        {bias, start, residual, bits, T(amplitude)}, y, threads);                 \
    }                                                                                             \
    extern "C" void sum_with_statistics_##suffix(OPERANDS(T, Current), Current* y, T* time_mean,  \
                                                 T* mean, T* var, int threads) {                  \
        sum_with_statistics<T, Current>({Shape(shape), p, w, strides, binary},                    \
                                        {bias, start, residual, bits, T(amplitude)}, y, time_mean, \
                                        mean, var, threads);                                      \
    }                                                                                             \
    extern "C" void sum_and_fire_##suffix(OPERANDS(T, Current), const T* slope, const T* offset,  \
                                          double decay, double gain, double threshold,            \
                                          double Vth, bool perfect, Byte* spikes, int threads) {  \
        const Shape s(shape);                                                                     \
        const Neuron<T> d{s.steps, T(decay), T(gain), T(threshold), T(Vth), 0, perfect, false};   \
        sum_and_fire<T, Current>({s, p, w, strides, binary},                                      \
                                 {bias, start, residual, bits, T(amplitude)}, slope, offset, d,   \
                                 spikes, threads);                                                \
    }                                                                                             \
    extern "C" void weight_grad_##suffix(const Size* shape, const Byte* p, const Current* dy,     \
                                         T* dw, const Size* strides, bool binary, int threads) {  \
        (binary ? weight_grad<T, true, Current> : weight_grad<T, false, Current>)(                \
            Shape(shape), p, dy, dw, strides, threads);                                           \
    }

EXPORT(float, float, float32)
EXPORT(double, double, float64)
EXPORT(float, bf16, bfloat16)

// The share of nonzero bytes in every kSampling-th block of them.
extern "C" void event_rate(const Byte* p, Size length, double* rate, int threads) {
    constexpr Size kBlock = 4096, kSampling = 16;
    const Size step = length >= 64 * kSampling * kBlock ? kSampling * kBlock : kBlock;
    Size events = 0, seen = 0;
#pragma omp parallel for num_threads(threads) reduction(+ : events, seen)
    for (Size first = 0; first < length; first += step) {
        const Size last = std::min(first + kBlock, length);
        std::uint16_t count = 0;
        for (Size at = first; at < last; ++at) count += p[at] != 0;
        events += count;
        seen += last - first;
    }
    *rate = seen ? double(events) / seen : 0.0;
}

// Zeros and ones, eight to a byte; `length` is a multiple of 8.
extern "C" void pack_bits(const Byte* values, Size length, Byte* bits, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (Size at = 0; at < length / 8; ++at) {
        std::uint64_t word;
        std::memcpy(&word, values + 8 * at, 8);
        bits[at] = word * 0x0102040810204080 >> 56;
    }
}

extern "C" void unpack_bits(const Byte* bits, Size length, Byte* values, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (Size at = 0; at < length / 8; ++at)
        for (int bit = 0; bit < 8; ++bit) values[8 * at + bit] = bits[at] >> bit & 1;
}
