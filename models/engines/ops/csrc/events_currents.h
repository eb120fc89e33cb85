// What is done with a tile of currents before it leaves the cache: other terms of the sum, the
// statistics of a BatchNorm, neurons.

#pragma once

#include "events_convolution.h"
#include "neuron.h"

namespace {

// Terms of a current beside the convolution; each may be null.
template <class T, class Current>
struct Terms {
    const T* bias;         // (outputs)
    const Current* y;      // (steps, pixels, outputs)
    const Byte* residual;  // (steps, pixels, outputs), spikes of this amplitude
    bool bits;             // whether eight of them lie in a byte
    T amplitude;
};

// A tile (steps, pixels, width) and what of a tensor (steps, pixels, outputs) it stands for.
template <class T, int N>
struct Tile {
    static constexpr Size width = Sums<T, N>::width;
    T* values;
    Size steps, pixels, outputs;  // of the tile
    Size first, step, pixel;      // of the tensor: place of the tile, distances of steps and pixels

    Tile(const Shape& s, T* values, const Part& part, Size o)
        : values(values), steps(s.steps), pixels((part.last - part.first) * s.x.out),
          outputs(std::min(width, s.outputs - o)), first(part.first * s.x.out * s.outputs + o),
          step(s.pixels() * s.outputs), pixel(s.outputs) {}

    T* at(Size t, Size i) const { return values + (t * pixels + i) * width; }
    Size place(Size t, Size i) const { return first + t * step + i * pixel; }

    template <class Current>
    void begin(const Terms<T, Current>& terms) const {
        T bias[width] = {};
        if (terms.bias) std::copy_n(terms.bias + first % pixel, outputs, bias);
        for (Size t = 0; t < steps; ++t) {
            for (Size i = 0; i < pixels; ++i) std::copy_n(bias, width, at(t, i));
            if (terms.y) add(t, terms.y, T(1));
        }
    }

    template <class Current>
    void add_residual(const Terms<T, Current>& terms) const {
        if (terms.residual)
            for (Size t = 0; t < steps; ++t)
                terms.bits ? add_bits(t, terms.residual, terms.amplitude)
                           : add(t, terms.residual, terms.amplitude);
    }

    template <class Value>
    void add(Size t, const Value* values, T scale) const {
        for (Size i = 0; i < pixels; ++i)
            if (outputs == width)  // known to the compiler
                add_row(values + place(t, i), scale, at(t, i), width);
            else
                add_row(values + place(t, i), scale, at(t, i), outputs);
    }

    // Rows of the tensor must fill bytes, and do since `outputs` of both are multiples of 8.
    void add_bits(Size t, const Byte* bits, T scale) const {
        for (Size i = 0; i < pixels; ++i) {
            const Byte* from = bits + place(t, i) / 8;
            T* to = at(t, i);
            for (Size e = 0; e < outputs; e += 8, ++from, to += 8)
                for (Size b = 0; b < 8; ++b) to[b] += kBitValues<T>[*from][b] * scale;
        }
    }

    template <class Value>
    static void add_row(const Value* from, T scale, T* to, Size length) {
        for (Size e = 0; e < length; ++e) to[e] += load(from[e]) * scale;
    }

    template <class Current>
    void store(Size t, Current* y) const {
        copy_rows<width>(at(t, 0), width, y + place(t, 0), pixel, outputs, pixels);
    }
};

// Sums over the pixels of a part, per channel, from which its statistics follow.
struct ChannelSums {
    Size outputs;
    std::vector<double> values;  // (parts, 3, outputs)

    ChannelSums(Size parts, Size outputs) : outputs(outputs), values(parts * 3 * outputs) {}

    double* of_part(Size part) { return values.data() + part * 3 * outputs; }

    // Mean and biased variance of `pixels` times `steps` values; parts are added in their order.
    template <class T>
    void finish(Size steps, Size pixels, T* mean, T* var) const {
        for (Size o = 0; o < outputs; ++o) {
            double sum[3] = {};
            for (Size at = o; at < Size(values.size()); at += 3 * outputs)
                for (int k = 0; k < 3; ++k) sum[k] += values[at + k * outputs];
            const double mu = sum[0] / pixels, between = sum[1] / pixels - mu * mu;
            mean[o] = T(mu);
            var[o] = T(std::max(0.0, between) + sum[2] / (double(pixels) * steps));
        }
    }
};

// Adds time means, their squares and the squares about them to `sums` (3, outputs). Where
// `time_mean` (pixels, outputs) is not null it is written, and subtracted from the tile.
template <class T, int N>
void add_statistics(const Tile<T, N>& tile, T* time_mean, double* sums, Size outputs) {
    constexpr Size width = Tile<T, N>::width;
    for (Size i = 0; i < tile.pixels; ++i) {
        T mean[width] = {}, within[width] = {};
        for (Size t = 0; t < tile.steps; ++t) {
            const T* y = tile.at(t, i);
            for (Size e = 0; e < width; ++e) mean[e] += y[e];
        }
        for (Size e = 0; e < width; ++e) mean[e] /= T(tile.steps);
        for (Size t = 0; t < tile.steps; ++t) {
            T* y = tile.at(t, i);
            for (Size e = 0; e < width; ++e) {
                const T d = y[e] - mean[e];
                within[e] += d * d;
                if (time_mean) y[e] = d;
            }
        }
        if (time_mean) std::copy_n(mean, tile.outputs, time_mean + tile.place(0, i));
        for (Size e = 0; e < tile.outputs; ++e) {
            sums[e] += mean[e];
            sums[outputs + e] += double(mean[e]) * mean[e];
            sums[2 * outputs + e] += within[e];
        }
    }
}

// Fires neurons whose input is slope * y + offset (null: y itself); spikes are (steps, pixels,
// outputs).
template <class T, int N>
void fire_tile(const Tile<T, N>& tile, const T* slope, const T* offset, const Neuron<T>& d,
               Byte* spikes) {
    constexpr Size width = Tile<T, N>::width;
    const Size o = tile.first % tile.pixel;
    T by[width], plus[width] = {};
    std::fill_n(by, width, T(1));
    if (slope) {
        std::copy_n(slope + o, tile.outputs, by);
        std::copy_n(offset + o, tile.outputs, plus);
    }
    for (Size i = 0; i < tile.pixels; ++i) {
        T u[width] = {};
        Byte fired[width];
        for (Size t = 0; t < tile.steps; ++t) {
            integrate(u, tile.at(t, i), by, plus, d, width);
            fire<false>(u, fired, nullptr, d, width);
            std::memcpy(spikes + tile.place(t, i), fired, tile.outputs);
        }
    }
}

}  // namespace
