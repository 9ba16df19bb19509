// Antialiased resampling, equal to Pillow's Image.resize bit for bit.
#pragma once

#include <string>
#include <vector>

#include "image.h"

namespace classify {

enum class Interpolation { kNearest, kBilinear, kBicubic, kBox, kHamming, kLanczos };

// What the card calls them, in the order of the enumeration.
inline const std::vector<std::string> kInterpolationNames = {"nearest", "bilinear", "bicubic",
                                                             "box",     "hamming",  "lanczos"};

// Of a picture that may be longer than memory: 1 x 4,000,000 pixels become 256 x 1,024,000,000.
struct Window {
    std::int64_t left;
    std::int64_t top;
    int width;
    int height;
};

// The part `window` of `image` resized to `width` x `height`; nothing outside the window is computed.
Image resize(const Image& image, std::int64_t width, std::int64_t height, Interpolation interpolation,
             const Window& window);

}  // namespace classify
