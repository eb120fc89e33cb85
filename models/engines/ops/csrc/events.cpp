// Convolutions of spike trains that add the weights of the spikes and skip the zeros, for CPUs.
//
// A train is bytes (B, H, W, C), channels last: zeros and ones, or small integers (pooled counts,
// totals over time), which multiply. The work grows with the number of nonzero bytes, the events.
// All sums run in an order that depends on the shapes alone, never on the number of threads.
// GCC's and Clang's vector extensions serve AVX2, AVX-512 and NEON from this one source.

#include "events_convolution.h"
#include "events_gradient.h"

// Weights of type T; the output and its gradient are `Current`.
#define EXPORT(T, Current, suffix)                                                                \
    extern "C" void convolve_##suffix(const Size* shape, const Byte* p, const T* w,               \
                                      const Size* strides, const T* bias, Current* y,             \
                                      bool binary, int threads) {                                 \
        constexpr int N = 256 / kVectorBytes, kNarrow = 64 / kVectorBytes;                        \
        const Shape s(shape);                                                                     \
        const bool narrow = s.outputs * Size(sizeof(T)) <= 64;                                    \
        (narrow ? convolve<T, kNarrow, Current> : convolve<T, N, Current>)(                       \
            s, p, w, strides, bias, y, binary, threads);                                          \
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
