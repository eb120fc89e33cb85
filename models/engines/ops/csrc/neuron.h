// One timestep of a row of neurons, in the order of operations of models/dynamics.py.

#pragma once

#include "numbers.h"

namespace {

template <class T>
constexpr T kSpike = 1;
template <>
constexpr bf16 kSpike<bf16> = 0x3f80;

// T is the type of membrane potentials.
template <class T>
struct Neuron {
    Size timesteps;
    T decay, gain, threshold, Vth, ceiling;  // fires at threshold = alpha * Vth
    bool perfect;                            // decay = gain = 1: u + z
    bool closed;                             // both ends of [0, ceiling] count as inside
};

// u <- decay * u + gain * z,  z = slope * y + shift
template <class T, class In>
void integrate(T* __restrict u, const In* __restrict y, const T* __restrict slope,
               const T* __restrict shift, const Neuron<T>& d, Size length) {
    if (d.perfect) {
#pragma omp simd
        for (Size e = 0; e < length; ++e) u[e] = u[e] + (load(y[e]) * slope[e] + shift[e]);
    } else {
        const T decay = d.decay, gain = d.gain;
#pragma omp simd
        for (Size e = 0; e < length; ++e)
            u[e] = decay * u[e] + gain * (load(y[e]) * slope[e] + shift[e]);
    }
}

// s = 1[u >= threshold],  u <- u - Vth there
template <bool kCounts, class T, class Spike>
void fire(T* __restrict u, Spike* __restrict spikes, std::int32_t* __restrict count,
          const Neuron<T>& d, Size length) {
    const T threshold = d.threshold, Vth = d.Vth;
#pragma omp simd
    for (Size e = 0; e < length; ++e) {
        const T before = u[e];
        const bool fired = before >= threshold;
        spikes[e] = fired ? kSpike<Spike> : Spike(0);
        if (kCounts) count[e] += fired ? 1 : 0;
        u[e] = fired ? before - Vth : before;
    }
}

}  // namespace
