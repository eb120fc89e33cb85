// What the convolution of spike trains and its weight gradient share: shapes, lists of events, sums
// in registers.

#pragma once

#include <algorithm>
#include <array>
#include <memory>
#include <new>
#include <vector>

#include "numbers.h"

namespace {

using Byte = std::uint8_t;
using Index = std::uint16_t;

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

// A register of T that loads from and stores to any multiple of T in memory.
template <class T>
struct Register {
    typedef T type __attribute__((vector_size(kVectorBytes), aligned(alignof(T)), may_alias));
    static constexpr int lanes = kVectorBytes / sizeof(T);
};

Size divide_up(Size a, Size b) { return (a + b - 1) / b; }

// Memory aligned to cache lines, so that no load touches two; values are not initialised.
template <class T>
class Buffer {
  public:
    explicit Buffer(Size size = 0) { reserve(size); }

    // Makes room for `size` values; those there were may be lost.
    void reserve(Size size) {
        if (size <= size_) return;
        size_ = size;
        values_.reset(static_cast<T*>(::operator new(size * sizeof(T), kLine)));
    }

    T* get() const { return values_.get(); }
    T& operator[](Size at) const { return values_[at]; }

  private:
    static constexpr std::align_val_t kLine{64};
    struct Delete {
        void operator()(T* values) const { ::operator delete(values, kLine); }
    };
    std::unique_ptr<T[], Delete> values_;
    Size size_ = 0;
};

constexpr Size kListedBytes = 1 << 20;  // limit on the input whose events are listed together

// How many rows of `pixels` pixels are about `wanted` pixels, at least one and not too many bytes.
Size rows_of(Size wanted, Size pixels, Size bytes) {
    return std::max<Size>(1, std::min(wanted / pixels, kListedBytes / bytes));
}

// One direction of a convolution.
struct Side {
    Size in, out, kernel, stride, padding, dilation;

    Size input(Size o, Size k) const { return o * stride - padding + k * dilation; }
};

// A convolution of `steps` times `images` images, time-major.
struct Shape {
    Size steps, images, channels, outputs;
    Side y, x;

    explicit Shape(const Size* s)
        : steps(s[0]), images(s[1]), channels(s[2]), outputs(s[3]),
          y{s[4], s[6], s[8], s[10], s[12], s[14]}, x{s[5], s[7], s[9], s[11], s[13], s[15]} {}

    Size pixels() const { return images * y.out * x.out; }  // of the output, a step
};

typedef Index Indices __attribute__((vector_size(16), aligned(2), may_alias));  // eight

// The positions of the bits that are set in a byte, lowest first.
std::array<std::array<Index, 8>, 256> bit_positions() {
    std::array<std::array<Index, 8>, 256> table{};
    for (int mask = 0; mask < 256; ++mask)
        for (int bit = 0, n = 0; bit < 8; ++bit)
            if (mask >> bit & 1) table[mask][n++] = bit;
    return table;
}

alignas(64) const std::array<std::array<Index, 8>, 256> kBitPositions = bit_positions();

// Writes `base` plus the position of every nonzero byte, and as often `label` where there are
// `labels`. Returns the number of them; up to 8 values behind the last are overwritten.
Size find_events(const Byte* bytes, Size length, bool binary, Index base, Index* positions,
                 Index label = 0, Index* labels = nullptr) {
    constexpr std::uint64_t kOnes = 0x0101010101010101, kLow = 0x7f * kOnes;
    Size found = 0;
    for (Size at = 0; at < length; at += 8) {
        std::uint64_t word = 0;
        if (at + 8 <= length)
            std::memcpy(&word, bytes + at, 8);
        else
            std::memcpy(&word, bytes + at, length - at);
        if (!binary) word = (((word & kLow) + kLow) | word) >> 7 & kOnes;
        const unsigned mask = word * 0x0102040810204080 >> 56;  // bit i of byte i
        const auto& set = *reinterpret_cast<const Indices*>(kBitPositions[mask].data());
        *reinterpret_cast<Indices*>(positions + found) = set + Index(base + at);
        if (labels) *reinterpret_cast<Indices*>(labels + found) = Indices{} + label;
        found += __builtin_popcount(mask);
    }
    return found;
}

// sum[v] += the vectors of `row`, times `by` for integers.
template <class T, int N>
struct Sums {
    using V = typename Register<T>::type;
    static constexpr int lanes = Register<T>::lanes, width = N * lanes;
    V sum[N];

    void load(const T* from) {
        for (int v = 0; v < N; ++v) sum[v] = *reinterpret_cast<const V*>(from + v * lanes);
    }
    void store(T* to) const {
        for (int v = 0; v < N; ++v) *reinterpret_cast<V*>(to + v * lanes) = sum[v];
    }
    void add(const T* row) {
        for (int v = 0; v < N; ++v) sum[v] += *reinterpret_cast<const V*>(row + v * lanes);
    }
    void add(const T* row, Byte by) {
        for (int v = 0; v < N; ++v)
            sum[v] += *reinterpret_cast<const V*>(row + v * lanes) * T(by);
    }
};

// Copies runs of `length` values, mostly kLength, `from_step` and `to_step` apart.
template <Size kLength, class From, class To>
void copy_rows(const From* from, Size from_step, To* to, Size to_step, Size length, Size rows) {
    for (Size r = 0; r < rows; ++r, from += from_step, to += to_step)
        if (length == kLength)  // known to the compiler, which needs no loop then
            for (Size e = 0; e < kLength; ++e) store(to + e, load(from[e]));
        else
            for (Size e = 0; e < length; ++e) store(to + e, load(from[e]));
}

}  // namespace
