// An RGB image in memory, and the bytes of a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace classify {

using Bytes = std::vector<std::uint8_t>;

// Pixels [height, width, 3], RGB.
struct Image {
    Image(int image_width, int image_height)
        : width(image_width), height(image_height), pixels(std::size_t(image_width) * image_height * 3) {}

    std::uint8_t* row(int y) {
        return pixels.data() + std::size_t(y) * width * 3;
    }
    const std::uint8_t* row(int y) const {
        return pixels.data() + std::size_t(y) * width * 3;
    }

    int width;
    int height;
    Bytes pixels;
};

}  // namespace classify
