// Convolutions of spike trains that add the weights of the spikes and skip the zeros, for CPUs.
//
// A train is bytes (B, H, W, C), channels last: zeros and ones, or small integers (pooled counts,
// totals over time), which multiply. The work grows with the number of nonzero bytes, the events.
// All sums run in an order that depends on the shapes alone, never on the number of threads.
// GCC's and Clang's vector extensions serve AVX2, AVX-512 and NEON from this one source.

#include "events_convolution.h"
#include "events_gradient.h"

#define EXPORT(T, suffix)                                                                         \
    extern "C" void convolve_##suffix(const Size* shape, const Byte* p, const T* w,               \
                                      const Size* strides, const T* bias, T* y, bool binary,      \
                                      int threads) {                                              \
        constexpr int N = 256 / kVectorBytes, kNarrow = 64 / kVectorBytes;                        \
        const Shape s(shape);                                                                     \
        (s.outputs * Size(sizeof(T)) <= 64 ? convolve<T, kNarrow> : convolve<T, N>)(              \
            s, p, w, strides, bias, y, binary, threads);                                          \
    }                                                                                             \
    extern "C" void weight_grad_##suffix(const Size* shape, const Byte* p, const T* dy, T* dw,    \
                                         const Size* strides, bool binary, int threads) {         \
        (binary ? weight_grad<T, true> : weight_grad<T, false>)(Shape(shape), p, dy, dw, strides,     \
                                                                threads);                        \
    }

EXPORT(float, float32)
EXPORT(double, float64)
