// Types of numbers in memory, and how they are computed with: bf16 as float, eight bits by a table.

#pragma once

#include <array>
#include <cstdint>
#include <cstring>

namespace {

using Size = std::int64_t;

using bf16 = std::uint16_t;  // the upper half of a float, as an integer so that compilers vectorise

// The bits of a byte as numbers, lowest first.
template <class T>
std::array<std::array<T, 8>, 256> bit_values() {
    std::array<std::array<T, 8>, 256> table{};
    for (int mask = 0; mask < 256; ++mask)
        for (int bit = 0; bit < 8; ++bit) table[mask][bit] = T(mask >> bit & 1);
    return table;
}

template <class T>
const std::array<std::array<T, 8>, 256> kBitValues = bit_values<T>();

inline float load(float a) { return a; }

inline double load(double a) { return a; }

inline float load(std::uint8_t a) { return a; }

inline float load(bf16 a) {
    const std::uint32_t bits = std::uint32_t(a) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

inline void store(float* to, float value) { *to = value; }

inline void store(double* to, double value) { *to = value; }

// Rounds to nearest, ties to even, as torch does; a NaN stays one.
inline void store(bf16* to, float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, 4);
    const std::uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    *to = bf16(value != value ? 0x7fc0 : rounded);
}

}  // namespace
