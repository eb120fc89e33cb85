// Weight gradient: for every weight row the rows of the output's gradient are added where its
// channel fired. The input is cut into chunks of rows; the gradient around a chunk is copied into
// a tile with zeros outside the image, so that no position needs a check.

#pragma once

#include "events_common.h"

namespace {

// Measured with benchmarks/events.py.
constexpr Size kGradPixels = 256;       // output pixels behind which events are sorted together
constexpr Size kUnits = 32;             // pieces of the work, shared among threads
constexpr Size kGroupChannels = 128;    // fewest channels to a piece, if there are several
constexpr Size kLargestTile = 1 << 16;  // pixels, which an Index counts

// How one direction maps positions of the input to the output: input i, seen through kernel
// position k, belongs to output `quotient(i) - reach(k)`, where their phases are the same.
struct Steps {
    Side side;
    Size before, after;      // positions outside the output that the tile holds
    std::vector<char> seen;  // whether any kernel position sees an input

    explicit Steps(const Side& side)
        : side(side), before(std::max<Size>(0, reach(side.kernel - 1) - quotient(0))),
          after(std::max<Size>(0, quotient(side.in - 1) - (side.out - 1))), seen(side.in) {
        for (Size i = 0; i < side.in; ++i)
            for (Size k = 0; k < side.kernel; ++k) seen[i] |= phase(k) == phase_in(i);
    }

    Size quotient(Size i) const { return (i + side.padding) / side.stride; }
    Size phase_in(Size i) const { return (i + side.padding) % side.stride; }
    Size reach(Size k) const { return k * side.dilation / side.stride; }
    Size phase(Size k) const { return k * side.dilation % side.stride; }
};

// Rows [first, last) of one image of the input, and where the tile holds what they map to.
struct Band {
    Size image, first, last, top, tile_row;  // `top` is the output row that lies at `tile_row`
};

struct Geometry {
    const Shape& s;
    Steps y, x;
    Size pitch, phases, rows, chunks;  // pixels to a tile row; input rows to a chunk

    explicit Geometry(const Shape& s)
        : s(s), y(s.y), x(s.x), pitch(s.x.out + std::max(x.before, x.after)),
          phases(s.y.stride * s.x.stride),
          rows(rows_of(kGradPixels * s.y.stride, s.x.out, s.x.in * s.channels)) {
        // A tile is largest where each row is an image of its own.
        rows = std::min(rows, kLargestTile / ((y.reach(s.y.kernel - 1) + 2) * pitch));
        chunks = divide_up(input_rows(), rows);
    }

    Size input_rows() const { return s.steps * s.images * s.y.in; }
    Size first_row(Size chunk) const { return chunk * rows; }
    Size last_row(Size chunk) const { return std::min((chunk + 1) * rows, input_rows()); }

    std::vector<Band> bands(Size chunk) const {
        std::vector<Band> all;
        for (Size r = first_row(chunk), place = 0; r < last_row(chunk);) {
            const Size image = r / s.y.in, first = r % s.y.in;
            const Size last = std::min(s.y.in, first + last_row(chunk) - r);
            const Size top = y.quotient(first) - y.reach(s.y.kernel - 1);
            all.push_back({image, first, last, top, place});
            place += y.quotient(last - 1) + 1 - top;
            r += last - first;
        }
        return all;
    }

    Size tile_pixels(const std::vector<Band>& bands) const {
        const Band& b = bands.back();
        return (b.tile_row + y.quotient(b.last - 1) + 1 - b.top) * pitch + x.before + x.after;
    }
};

// The events of a chunk, sorted by phase and channel: the tile pixel each maps to through kernel
// position 0, and where they are integers the value.
struct SortedEvents {
    std::vector<std::uint32_t> start;  // of each key `phase * channels + channel`
    std::vector<Index> pixel;
    std::vector<Byte> value;
};

// Sorts the events of one chunk after the other; memory is kept in between.
class Sorter {
  public:
    Sorter(const Geometry& g, const Byte* p, bool binary)
        : g_(g), p_(p), binary_(binary), keys_(capacity()), pixels_(capacity()),
          values_(binary ? 0 : capacity()) {}

    void sort(Size chunk, SortedEvents& sorted) {
        const Size found = find(chunk), keys = g_.s.channels * g_.phases;
        sorted.start.assign(keys + 1, 0);
        for (Size e = 0; e < found; ++e) ++sorted.start[keys_[e] + 1];
        for (Size key = 0; key < keys; ++key) sorted.start[key + 1] += sorted.start[key];
        next_.assign(sorted.start.begin(), sorted.start.end());
        sorted.pixel.resize(found);
        if (!binary_) sorted.value.resize(found);
        for (Size e = 0; e < found; ++e) {
            const std::uint32_t place = next_[keys_[e]]++;
            sorted.pixel[place] = pixels_[e];
            if (!binary_) sorted.value[place] = values_[e];
        }
    }

  private:
    Size capacity() const { return g_.rows * g_.s.x.in * g_.s.channels + 8; }

    // Lists the events of those pixels of a chunk that any kernel position sees.
    Size find(Size chunk) {
        const Size C = g_.s.channels;
        Size found = 0;
        for (const Band& band : g_.bands(chunk))
            for (Size y = band.first; y < band.last; ++y) {
                if (!g_.y.seen[y]) continue;
                const Byte* row = p_ + (band.image * g_.s.y.in + y) * g_.s.x.in * C;
                const Size place = (band.tile_row + g_.y.quotient(y) - band.top) * g_.pitch;
                const Size phase = g_.y.phase_in(y) * g_.s.x.stride;
                for (Size x = 0; x < g_.s.x.in; ++x)
                    if (g_.x.seen[x])
                        found += find_pixel(row + x * C, (phase + g_.x.phase_in(x)) * C,
                                            place + g_.x.before + g_.x.quotient(x), found);
            }
        return found;
    }

    Size find_pixel(const Byte* bytes, Size base, Size pixel, Size at) {
        const Size found = find_events(bytes, g_.s.channels, binary_, base, &keys_[at], pixel,
                                       &pixels_[at]);
        if (!binary_)
            for (Size e = at; e < at + found; ++e) values_[e] = bytes[keys_[e] - base];
        return found;
    }

    const Geometry& g_;
    const Byte* p_;
    bool binary_;
    Buffer<Index> keys_, pixels_;
    Buffer<Byte> values_;
    std::vector<std::uint32_t> next_;
};

// The kernel columns of one phase, at most three of which are summed together.
struct Taps {
    Size phase, count, column[3];
};

std::vector<Taps> taps(const Steps& x) {
    std::vector<Taps> all;
    for (Size phase = 0; phase < x.side.stride; ++phase) {
        Taps group{phase, 0, {}};
        for (Size k = 0; k < x.side.kernel; ++k) {
            if (x.phase(k) != phase) continue;
            group.column[group.count++] = k;
            if (group.count == 3) {
                all.push_back(group);
                group.count = 0;
            }
        }
        if (group.count) all.push_back(group);
    }
    return all;
}

template <class T>
constexpr Size kGradWidth = 128 / sizeof(T);  // outputs to a block

// One block of outputs of the gradient `(channels, kernel y, kernel x, width)`.
template <class T, bool kBinary, class In>
class GradBlock {
  public:
    static constexpr Size width = kGradWidth<T>;

    GradBlock(const Geometry& g, const In* dy, Size first_output)
        : g_(g), dy_(dy), o_(first_output), outputs_(std::min(width, g.s.outputs - first_output)),
          columns_(taps(g.x)) {}

    // Adds what the events of channels [first, last) of a chunk contribute.
    void add(Size chunk, const SortedEvents& events, Size first, Size last, T* grad) {
        copy_tile(g_.bands(chunk));
        for (const Taps& group : columns_)
            for (Size ky = 0; ky < g_.s.y.kernel; ++ky)
                (group.count == 3   ? &GradBlock::add_taps<3>
                 : group.count == 2 ? &GradBlock::add_taps<2>
                                    : &GradBlock::add_taps<1>)(
                    *this, events, group, ky, first, last, grad + ky * g_.s.x.kernel * width);
    }

  private:
    // grad[channel][column] += sum over the channel's events of the tile's rows at their pixels,
    // each column at its distance.
    template <int K>
    static void add_taps(const GradBlock& block, const SortedEvents& events, const Taps& taps,
                         Size ky, Size first, Size last, T* grad) {
        const Geometry& g = block.g_;
        const Size phase = g.y.phase(ky) * g.s.x.stride + taps.phase;
        const std::uint32_t* start = events.start.data() + phase * g.s.channels;
        const T* tile = block.tile_.get() - g.y.reach(ky) * g.pitch * width;
        Size back[K], column[K];
        for (int k = 0; k < K; ++k) {
            column[k] = taps.column[k] * width;
            back[k] = g.x.reach(taps.column[k]) * width;
        }
        const Size distance = g.s.y.kernel * g.s.x.kernel * width;
        grad += first * distance;
        for (Size c = first; c < last; ++c, grad += distance) {
            if (start[c] == start[c + 1]) continue;
            Sums<T, width / Register<T>::lanes> sums[K];
            for (int k = 0; k < K; ++k) sums[k].load(grad + column[k]);
            for (std::uint32_t e = start[c]; e < start[c + 1]; ++e) {
                const T* row = tile + Size(events.pixel[e]) * width;
                for (int k = 0; k < K; ++k) {
                    if (kBinary)
                        sums[k].add(row - back[k]);
                    else
                        sums[k].add(row - back[k], events.value[e]);
                }
            }
            for (int k = 0; k < K; ++k) sums[k].store(grad + column[k]);
        }
    }

    void copy_tile(const std::vector<Band>& bands) {
        const Side &y = g_.s.y, &x = g_.s.x;
        const Size size = g_.tile_pixels(bands) * width;
        tile_.reserve(size);
        std::fill_n(tile_.get(), size, T(0));
        for (const Band& band : bands) {
            const Size end = std::min(g_.y.quotient(band.last - 1) + 1, y.out);
            for (Size row = std::max<Size>(band.top, 0); row < end; ++row) {
                const In* from = dy_ + (band.image * y.out + row) * x.out * g_.s.outputs + o_;
                const Size place = (band.tile_row + row - band.top) * g_.pitch + g_.x.before;
                copy_rows<width>(from, g_.s.outputs, tile_.get() + place * width, width, outputs_,
                                 x.out);
            }
        }
    }

    const Geometry& g_;
    const In* dy_;
    Size o_, outputs_;
    std::vector<Taps> columns_;
    Buffer<T> tile_;
};

// Writes the sum of the parts of one block of outputs, `distance` apart, into the gradient.
template <class T>
void add_parts(const Shape& s, const T* partial, Size parts, Size distance, Size first_output,
               T* dw, const Size* strides) {
    constexpr Size width = kGradWidth<T>, kSide = 16;  // a square of both orders fits the cache
    const Size taps = s.y.kernel * s.x.kernel, outputs = std::min(width, s.outputs - first_output);
    for (Size tap = 0; tap < taps; ++tap)
        for (Size c0 = 0; c0 < s.channels; c0 += kSide)
            for (Size o = 0; o < outputs; ++o) {
                T* to = dw + (first_output + o) * strides[0] + tap / s.x.kernel * strides[2] +
                        tap % s.x.kernel * strides[3];
                for (Size c = c0; c < std::min(c0 + kSide, s.channels); ++c) {
                    T sum = 0;
                    for (Size part = 0; part < parts; ++part)
                        sum += partial[part * distance + (c * taps + tap) * width + o];
                    to[c * strides[1]] = sum;
                }
            }
}

template <class T, bool kBinary, class In>
void weight_grad(const Shape& s, const Byte* p, const In* dy, T* dw, const Size* strides,
                 int threads) {
    constexpr Size width = kGradWidth<T>;
    const Geometry g(s);
    const Size blocks = divide_up(s.outputs, width), taps = s.y.kernel * s.x.kernel;
    const Size groups = std::max<Size>(1, std::min(s.channels / kGroupChannels, kUnits / blocks));
    const Size parts = std::max<Size>(1, std::min(g.chunks, kUnits / (blocks * groups)));
    const Size size = s.channels * taps * width;
    const Buffer<T> partial(parts * blocks * size);
    std::vector<SortedEvents> events(g.chunks);
#pragma omp parallel num_threads(threads)
    {
        Sorter sorter(g, p, kBinary);
#pragma omp for schedule(dynamic)
        for (Size k = 0; k < g.chunks; ++k) sorter.sort(k, events[k]);
#pragma omp for schedule(dynamic)
        for (Size unit = 0; unit < parts * blocks * groups; ++unit) {
            const Size part = unit / groups / blocks, group = unit % groups;
            const Size first = s.channels * group / groups;
            const Size last = s.channels * (group + 1) / groups;
            T* const grad = partial.get() + unit / groups * size;
            std::fill(grad + first * taps * width, grad + last * taps * width, T(0));
            GradBlock<T, kBinary, In> block(g, dy, unit / groups % blocks * width);
            for (Size k = g.chunks * part / parts; k < g.chunks * (part + 1) / parts; ++k)
                block.add(k, events[k], first, last, grad);
        }
#pragma omp for schedule(static)
        for (Size o = 0; o < s.outputs; o += width)
            add_parts(s, partial.get() + o / width * size, parts, blocks * size, o, dw, strides);
    }
}

}  // namespace
