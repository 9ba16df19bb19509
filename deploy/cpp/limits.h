// What decoding a file may cost in time and memory, decided from its header: datasets/reading/limits.py in C++.
#pragma once

#include <cstddef>
#include <cstdint>

#include "image.h"

namespace classify {

// What a header says of the costs of decoding.
struct Costs {
    double ns_per_pixel = 0;
    double ns_per_byte = 0;
    double extra_ns = 0;
    double extra_bytes = 0;   // memory beside the file and the image
    int bytes_per_pixel = 4;  // of Pillow's image, and of the RGB image that is made of it
    bool may_turn = false;    // whether there is metadata that may say how the image is to be rotated
};

struct Size {
    std::uint64_t width = 0;
    std::uint64_t height = 0;
};

struct Header {
    Size size;
    Costs costs;
    std::size_t end_of_pixels = 0;  // of a PNG: the byte after its last IDAT
};

// Reads the header of a JPEG or PNG. Throws BadImage if it has more parts than any genuine one, is of a rare kind of
// JPEG, or is damaged.
Header check_jpeg(const Bytes& data);
Header check_png(const Bytes& data);

// Returns the scale at which the image is decoded: 1, or for a JPEG that is too large 2, 4 or 8. Throws BadImage if no
// scale is within the limits.
int choose_scale(const Header& header, std::size_t num_bytes, bool is_jpeg, bool is_turned);

}  // namespace classify
