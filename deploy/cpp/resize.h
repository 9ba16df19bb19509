// Antialiased resampling, equal to Image.resize of Pillow bit for bit.
#pragma once

#include <string>
#include <vector>

#include "image.h"

namespace classify {

enum class Interpolation { kNearest, kBilinear, kBicubic, kBox, kHamming, kLanczos };

// Names in the card, in the order of the enumeration.
inline const std::vector<std::string> kInterpolationNames = {"nearest", "bilinear", "bicubic",
                                                             "box",     "hamming",  "lanczos"};

// A part of a resized image, which may not fit into memory: 1 x 4,000,000 pixels become 256 x 1,024,000,000.
struct Window {
    std::int64_t left;
    std::int64_t top;
    int width;
    int height;
};

// Resizes `image` to `width` x `height` and returns the part `window`; nothing outside the window is computed.
Image resize(const Image& image, std::int64_t width, std::int64_t height, Interpolation interpolation,
             const Window& window);

}  // namespace classify
