// SHA-256 by FIPS 180-4, sections 4.1.2, 5.1.1 and 6.2.2.
#include "sha256.h"

#include <array>
#include <cstring>
#include <fstream>
#include <vector>

namespace classify {
namespace {

constexpr std::size_t kBlockBytes = 64;
using State = std::array<std::uint32_t, 8>;

constexpr State kInitialState = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

constexpr std::uint32_t kRoundConstants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

std::uint32_t rotate_right(std::uint32_t value, int count) {
    return (value >> count) | (value << (32 - count));
}

void add_block(State& state, const std::uint8_t* block) {
    std::uint32_t schedule[64];
    for (int i = 0; i < 16; ++i) {
        const std::uint8_t* word = block + 4 * i;
        schedule[i] =
            std::uint32_t(word[0]) << 24 | std::uint32_t(word[1]) << 16 | std::uint32_t(word[2]) << 8 | word[3];
    }
    for (int i = 16; i < 64; ++i) {
        const std::uint32_t early = schedule[i - 15];
        const std::uint32_t late = schedule[i - 2];
        const std::uint32_t sigma0 = rotate_right(early, 7) ^ rotate_right(early, 18) ^ (early >> 3);
        const std::uint32_t sigma1 = rotate_right(late, 17) ^ rotate_right(late, 19) ^ (late >> 10);
        schedule[i] = schedule[i - 16] + sigma0 + schedule[i - 7] + sigma1;
    }
    auto [a, b, c, d, e, f, g, h] = state;
    for (int i = 0; i < 64; ++i) {
        const std::uint32_t sum1 = rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25);
        const std::uint32_t choice = (e & f) ^ (~e & g);
        const std::uint32_t step1 = h + sum1 + choice + kRoundConstants[i] + schedule[i];
        const std::uint32_t sum0 = rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22);
        const std::uint32_t majority = (a & b) ^ (a & c) ^ (b & c);
        h = g;
        g = f;
        f = e;
        e = d + step1;
        d = c;
        c = b;
        b = a;
        a = step1 + sum0 + majority;
    }
    const State step = {a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < state.size(); ++i) {
        state[i] += step[i];
    }
}

void add_blocks(State& state, const std::uint8_t* data, std::size_t size) {
    for (std::size_t first = 0; first + kBlockBytes <= size; first += kBlockBytes) {
        add_block(state, data + first);
    }
}

// Adds the last `size` bytes of a message of `num_bytes`: whole blocks, then the rest with its padding (a one bit,
// zeros, the length in bits).
void add_last_bytes(State& state, const std::uint8_t* data, std::size_t size, std::uint64_t num_bytes) {
    add_blocks(state, data, size);
    const std::size_t num_rest = size % kBlockBytes;
    const std::uint8_t* rest = data + size - num_rest;
    std::array<std::uint8_t, 2 * kBlockBytes> padded{};
    std::memcpy(padded.data(), rest, num_rest);
    padded[num_rest] = 0x80;
    const std::size_t num_padded = num_rest + 9 <= kBlockBytes ? kBlockBytes : 2 * kBlockBytes;
    const std::uint64_t num_bits = 8 * num_bytes;
    for (int i = 0; i < 8; ++i) {
        padded[num_padded - 1 - i] = std::uint8_t(num_bits >> (8 * i));
    }
    add_blocks(state, padded.data(), num_padded);
}

std::string hexadecimal(const State& state) {
    std::string digits;
    for (const std::uint32_t word : state) {
        for (int shift = 28; shift >= 0; shift -= 4) {
            digits += "0123456789abcdef"[word >> shift & 0xf];
        }
    }
    return digits;
}

}  // namespace

std::string sha256(const std::string& text) {
    State state = kInitialState;
    add_last_bytes(state, reinterpret_cast<const std::uint8_t*>(text.data()), text.size(), text.size());
    return hexadecimal(state);
}

FileRecord file_record(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::vector<std::uint8_t> buffer(1 << 20);  // a multiple of the block
    State state = kInitialState;
    std::uint64_t num_bytes = 0;
    while (file.read(reinterpret_cast<char*>(buffer.data()), std::streamsize(buffer.size()))) {
        add_blocks(state, buffer.data(), buffer.size());
        num_bytes += buffer.size();
    }
    const auto num_read = std::size_t(file.gcount());
    num_bytes += num_read;
    add_last_bytes(state, buffer.data(), num_read, num_bytes);
    return {num_bytes, hexadecimal(state)};
}

}  // namespace classify
