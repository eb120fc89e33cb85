// Forward: for every output pixel the rows of weights that its window's spikes select are added.

#pragma once

#include "events_common.h"

namespace {

// Measured with benchmarks/events.py.
constexpr Size kChannels = 128;     // input channels to a block of weights
constexpr Size kTilePixels = 1024;  // output pixels that a thread computes together,
constexpr Size kStepPixels = 2048;  // those of all steps where there are several
constexpr Size kPartsTogether = 4;  // tiles whose events a thread lists together, at most,
constexpr Size kPartsPerThread = 4;  // and how often a thread does so, at least

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

// Rows [first, last) of the output, numbered through the images of a step; all steps of them are
// computed together.
struct Part {
    Size first, last, number;
};

// The events of those rows of the input that some rows of the output see. An event of pixel x and
// channel c of a block is x * depth + c: what a window sees of a row is one run.
class RowEvents {
  public:
    const Shape& s;
    const Size depth;
    Buffer<Index> at;
    Buffer<Byte> value;  // of each event, where they are integers

    RowEvents(const Shape& s, Size depth, bool binary)
        : s(s), depth(depth), binary_(binary), seen_(s.x.in) {
        for (Size o = 0; o < s.x.out; ++o)
            for (Size k = 0; k < s.x.kernel; ++k) {
                const Size x = s.x.input(o, k);
                if (x >= 0 && x < s.x.in) seen_[x] = true;
            }
    }

    // Lists what rows [first, last) of the output see.
    void find(const Byte* p, Size first, Size last) {
        number_rows(first, last);
        const Size rows = rows_.size(), depths = divide_up(s.channels, depth);
        start_.resize(depths * rows * (s.x.in + 1));
        at.reserve(rows * s.x.in * s.channels + 8);
        if (!binary_) value.reserve(rows * s.x.in * s.channels);
        Size found = 0;
        for (Size d = 0; d < depths; ++d)
            for (Size r = 0; r < rows; ++r) found = find_row(p, d, r, found);
    }

    // Where the events of block `d` begin at each column of the input row that output row `r` sees
    // at step `t` through kernel row `ky`; null outside the image.
    const std::uint32_t* starts(Size d, Size t, Size r, Size ky) const {
        const Size y = s.y.input(r % s.y.out, ky);
        if (y < 0 || y >= s.y.in) return nullptr;
        const Size slot = slot_[place(t, r / s.y.out, y)];
        return start_.data() + (d * rows_.size() + slot) * (s.x.in + 1);
    }

  private:
    Size place(Size t, Size image, Size y) const {
        return (t * images_ + image - first_image_) * s.y.in + y;
    }

    // Gives the input rows that are seen consecutive numbers, their slots.
    void number_rows(Size first, Size last) {
        first_image_ = first / s.y.out;
        images_ = (last - 1) / s.y.out + 1 - first_image_;
        slot_.assign(s.steps * images_ * s.y.in, -1);
        rows_.clear();
        for (Size t = 0; t < s.steps; ++t)
            for (Size r = first; r < last; ++r)
                for (Size k = 0; k < s.y.kernel; ++k) {
                    const Size image = r / s.y.out, y = s.y.input(r % s.y.out, k);
                    if (y < 0 || y >= s.y.in) continue;
                    Size& slot = slot_[place(t, image, y)];
                    if (slot >= 0) continue;
                    slot = rows_.size();
                    rows_.push_back((t * s.images + image) * s.y.in + y);
                }
    }

    Size find_row(const Byte* p, Size d, Size r, Size found) {
        const Size channels = std::min(depth, s.channels - d * depth);
        std::uint32_t* starts = start_.data() + (d * rows_.size() + r) * (s.x.in + 1);
        for (Size x = 0; x < s.x.in; ++x) {
            starts[x] = found;
            if (!seen_[x]) continue;
            const Byte* bytes = p + (rows_[r] * s.x.in + x) * s.channels + d * depth;
            const Size end = found + find_events(bytes, channels, binary_, x * depth, &at[found]);
            if (!binary_)
                for (Size e = found; e < end; ++e) value[e] = bytes[at[e] - x * depth];
            found = end;
        }
        starts[s.x.in] = found;
        return found;
    }

    bool binary_;
    Size first_image_ = 0, images_ = 0;
    std::vector<std::uint32_t> start_;
    std::vector<Size> slot_, rows_;  // slot of an input row, -1 if not seen; input row of a slot
    std::vector<char> seen_;         // whether any window sees column x
};

// Adds to one row of the output tile what kernel columns [k, k + columns) see of a row of events.
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

// Adds to the tile (steps, rows of the part, columns, width) of one block of outputs.
template <class T, int N, bool kBinary>
void add_rows(const RowEvents& events, const Weights<T, N>& weights, Size block, const Part& part,
              T* tile) {
    constexpr Size width = Sums<T, N>::width;
    const Shape& s = events.s;
    const Size columns = s.x.dilation == 1 ? s.x.kernel : 1, rows = part.last - part.first;
    for (Size d = 0; d < weights.depths; ++d)
        for (Size ky = 0; ky < s.y.kernel; ++ky)
            for (Size kx = 0; kx < s.x.kernel; kx += columns) {
                const T* w = weights.at(block, d, ky) + kx * weights.depth * width;
                for (Size t = 0; t < s.steps; ++t)
                    for (Size r = part.first; r < part.last; ++r)
                        if (const auto* starts = events.starts(d, t, r, ky))
                            add_row<T, N, kBinary>(
                                events, starts, w, kx, columns,
                                tile + (t * rows + r - part.first) * s.x.out * width);
            }
}

// Rows of the output to a part, of all images of a step: such that parts are equal, and even in
// number, since few of them are shared by few threads.
Size rows_of_parts(const Shape& s) {
    const Size wanted = s.steps == 1 ? kTilePixels : kStepPixels / s.steps;
    const Size rows = rows_of(wanted, s.x.out, s.steps * s.x.in * s.channels);
    const Size total = s.images * s.y.out, parts = std::max<Size>(1, divide_up(total, rows));
    return std::max<Size>(1, divide_up(total, parts + parts % 2));
}

Size count_parts(const Shape& s) { return divide_up(s.images * s.y.out, rows_of_parts(s)); }

// Parts whose events are listed together, since neighbours see the same rows of the input at their
// border; fewer where threads would be idle.
Size parts_listed_together(const Shape& s, int threads) {
    const Size bytes = rows_of_parts(s) * s.steps * s.x.in * s.channels;
    const Size most = std::min(kListedBytes / bytes, count_parts(s) / (kPartsPerThread * threads));
    return std::clamp<Size>(most, 1, kPartsTogether);
}

// Calls begin(tile, part, first output), adds the convolution to the tile (steps, pixels, width)
// and calls end(tile, part, first output), for every part and block of outputs.
template <class T, int N, class Begin, class End>
void convolve(const Shape& s, const Byte* p, const T* w, const Size* strides, bool binary,
              int threads, const Begin& begin, const End& end) {
    constexpr Size width = Sums<T, N>::width;
    const Weights<T, N> weights(s, w, strides, threads);
    const Size total = s.images * s.y.out, rows = rows_of_parts(s);
    const Size listed = rows * parts_listed_together(s, threads);
#pragma omp parallel num_threads(threads)
    {
        RowEvents events(s, weights.depth, binary);
        const Buffer<T> tile(s.steps * rows * s.x.out * width);
#pragma omp for schedule(dynamic)
        for (Size start = 0; start < total; start += listed) {
            const Size stop = std::min(start + listed, total);
            events.find(p, start, stop);
            for (Size first = start; first < stop; first += rows) {
                const Part part{first, std::min(first + rows, total), first / rows};
                for (Size o = 0; o < s.outputs; o += width) {
                    begin(tile.get(), part, o);
                    (binary ? add_rows<T, N, true> : add_rows<T, N, false>)(
                        events, weights, o / width, part, tile.get());
                    end(tile.get(), part, o);
                }
            }
        }
    }
}

}  // namespace
