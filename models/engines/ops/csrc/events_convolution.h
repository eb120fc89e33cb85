// Forward: for every output pixel the rows of weights that its window's spikes select are added.

#pragma once

#include "events_common.h"

namespace {

// Measured with benchmarks/events.py.
constexpr Size kChannels = 128;     // input channels to a block of weights
constexpr Size kTilePixels = 1024;  // output pixels that a thread computes together

// Weights as (outputs / width, channels / kChannels, kernel y, kernel x, kChannels, width): a
// window's row of events reads one block of kernel x * kChannels rows, which fits the first cache.
template <class T, int N>
struct Weights {
    static constexpr Size width = Sums<T, N>::width;
    const Shape& s;
    Size depth, depths;  // channels to a block, and blocks
    Buffer<T> values;

    Weights(const Shape& s, const T* w, const Size* strides, int threads)
        : s(s), depth(std::min(kChannels, s.channels)), depths(divide_up(s.channels, depth)) {
        const Size blocks = divide_up(s.outputs, width) * depths * s.y.kernel;
        values.reserve(blocks * block());
#pragma omp parallel for num_threads(threads) schedule(static)
        for (Size b = 0; b < blocks; ++b) {
            const Size ky = b % s.y.kernel, d = b / s.y.kernel % depths;
            const Size o = b / s.y.kernel / depths * width;
            const T* from = w + o * strides[0] + d * depth * strides[1] + ky * strides[2];
            for (Size kx = 0; kx < s.x.kernel; ++kx)
                fill(from + kx * strides[3], strides, std::min(width, s.outputs - o),
                     std::min(depth, s.channels - d * depth),
                     values.get() + b * block() + kx * depth * width);
        }
    }

    static void fill(const T* w, const Size* strides, Size outputs, Size channels, T* to) {
        if (outputs < width) std::fill(to, to + channels * width, T(0));
        for (Size o = 0; o < outputs; ++o)
            for (Size c = 0; c < channels; ++c)
                to[c * width + o] = w[o * strides[0] + c * strides[1]];
    }

    Size block() const { return s.x.kernel * depth * width; }

    const T* at(Size o, Size d, Size ky) const {
        return values.get() + ((o * depths + d) * s.y.kernel + ky) * block();
    }
};

// The events of those rows of the input that some consecutive rows of the output see. An event of
// pixel x and channel c of a block is x * depth + c: what a window sees of a row is one run.
struct RowEvents {
    const Shape& s;
    Size depth, depths, rows = 0;
    Buffer<Index> at;
    Buffer<Byte> value;  // of each event, where they are integers
    std::vector<std::uint32_t> start;
    std::vector<Size> slot;       // of an input row of the chunk's images, -1 where it is not seen
    std::vector<char> seen;       // whether any window sees column x
    std::vector<Size> seen_rows;  // in order of slots

    RowEvents(const Shape& s, Size depth, Size depths)
        : s(s), depth(depth), depths(depths), seen(s.x.in) {
        for (Size o = 0; o < s.x.out; ++o)
            for (Size k = 0; k < s.x.kernel; ++k) {
                const Size x = s.x.input(o, k);
                if (x >= 0 && x < s.x.in) seen[x] = true;
            }
    }

    // Lists the events behind the output rows [first, last), numbered through all images.
    void find(const Byte* p, Size first, Size last, bool binary) {
        const Size image = first / s.y.out, images = (last - 1) / s.y.out + 1 - image;
        slot.assign(images * s.y.in, -1);
        seen_rows.clear();
        for (Size r = first; r < last; ++r)
            for (Size k = 0; k < s.y.kernel; ++k) {
                const Size y = s.y.input(r % s.y.out, k);
                if (y < 0 || y >= s.y.in) continue;
                Size& place = slot[(r / s.y.out - image) * s.y.in + y];
                if (place >= 0) continue;
                place = seen_rows.size();
                seen_rows.push_back((r / s.y.out) * s.y.in + y);
            }
        rows = seen_rows.size();
        start.resize(depths * rows * (s.x.in + 1));
        at.reserve(rows * s.x.in * s.channels + 8);
        if (!binary) value.reserve(rows * s.x.in * s.channels);
        Size found = 0;
        for (Size d = 0; d < depths; ++d)
            for (Size r = 0; r < rows; ++r) found = find_row(p, d, r, binary, found);
    }

    Size find_row(const Byte* p, Size d, Size r, bool binary, Size found) {
        const Size channels = std::min(depth, s.channels - d * depth);
        std::uint32_t* starts = start.data() + (d * rows + r) * (s.x.in + 1);
        for (Size x = 0; x < s.x.in; ++x) {
            starts[x] = found;
            if (!seen[x]) continue;
            const Byte* bytes = p + (seen_rows[r] * s.x.in + x) * s.channels + d * depth;
            const Size end = found + find_events(bytes, channels, binary, x * depth, &at[found]);
            if (!binary)
                for (Size e = found; e < end; ++e) value[e] = bytes[at[e] - x * depth];
            found = end;
        }
        starts[s.x.in] = found;
        return found;
    }
};

// Adds to one row of the output tile what kernel row `ky` sees of one row of events, whose kernel
// columns [k, k + columns) are `s.x.dilation` apart (1 where there is more than one).
template <class T, int N, bool kBinary>
void add_row(const RowEvents& events, const std::uint32_t* starts, const T* weights, Size k,
             Size columns, T* tile) {
    using S = Sums<T, N>;
    const Side& side = events.s.x;
    for (Size o = 0; o < side.out; ++o, tile += S::width) {
        const Size x = side.input(o, k);
        const Size low = std::max<Size>(x, 0), high = std::min(x + columns, side.in);
        if (low >= high) continue;
        const auto rows = reinterpret_cast<std::uintptr_t>(weights) -
                          x * events.depth * S::width * Size(sizeof(T));
        S sums;
        sums.load(tile);
        for (std::uint32_t e = starts[low]; e < starts[high]; ++e) {
            const auto place = rows + events.at[e] * (S::width * sizeof(T));
            if (kBinary)
                sums.add(reinterpret_cast<const T*>(place));
            else
                sums.add(reinterpret_cast<const T*>(place), events.value[e]);
        }
        sums.store(tile);
    }
}

// One block of outputs of a chunk of output rows.
template <class T, int N, bool kBinary>
void add_rows(const RowEvents& events, const Weights<T, N>& weights, Size block, Size first,
              Size last, T* tile) {
    const Shape& s = events.s;
    const Size columns = s.x.dilation == 1 ? s.x.kernel : 1, image = first / s.y.out;
    for (Size d = 0; d < events.depths; ++d)
        for (Size ky = 0; ky < s.y.kernel; ++ky)
            for (Size kx = 0; kx < s.x.kernel; kx += columns)
                for (Size r = first; r < last; ++r) {
                    const Size y = s.y.input(r % s.y.out, ky);
                    if (y < 0 || y >= s.y.in) continue;
                    const Size slot = events.slot[(r / s.y.out - image) * s.y.in + y];
                    add_row<T, N, kBinary>(
                        events, events.start.data() + (d * events.rows + slot) * (s.x.in + 1),
                        weights.at(block, d, ky) + kx * events.depth * Sums<T, N>::width, kx,
                        columns, tile + (r - first) * s.x.out * Sums<T, N>::width);
                }
}

template <class T, int N, class Out>
void convolve(const Shape& s, const Byte* p, const T* w, const Size* strides, const T* bias,
              Out* y, bool binary, int threads) {
    constexpr Size width = Sums<T, N>::width;
    const Weights<T, N> weights(s, w, strides, threads);
    const Size rows = s.images * s.y.out, step = rows_of(kTilePixels, s.x.out, s.x.in * s.channels);
#pragma omp parallel num_threads(threads)
    {
        RowEvents events(s, weights.depth, weights.depths);
        const Buffer<T> tile(step * s.x.out * width);
#pragma omp for schedule(dynamic)
        for (Size first = 0; first < rows; first += step) {
            const Size last = std::min(first + step, rows), pixels = (last - first) * s.x.out;
            events.find(p, first, last, binary);
            for (Size o = 0; o < s.outputs; o += width) {
                const Size outputs = std::min(width, s.outputs - o);
                for (Size e = 0; e < pixels * width; ++e)
                    tile[e] = bias && e % width < outputs ? bias[o + e % width] : T(0);
                (binary ? add_rows<T, N, true> : add_rows<T, N, false>)(
                    events, weights, o / width, first, last, tile.get());
                Out* to = y + first * s.x.out * s.outputs + o;
                copy_rows<width>(tile.get(), width, to, s.outputs, outputs, pixels);
            }
        }
    }
}

}  // namespace
