// Rounds as datasets/preprocess.py, so that the arrays are equal bit for bit.
#include "preprocess.h"

#include <algorithm>
#include <cmath>

namespace classify {
namespace {

// Rounds halves to the even number, as round() of Python.
std::int64_t crop_offset(std::int64_t size, std::int64_t crop_size) {
    return std::llrint(double(size - crop_size) / 2);
}

Image center_crop(const Image& image, const Preprocess& preprocess) {
    const std::int64_t short_side = preprocess.resize_size;
    std::int64_t width = short_side;
    std::int64_t height = short_side;
    if (image.width < image.height) {
        height = short_side * image.height / image.width;
    } else {
        width = short_side * image.width / image.height;
    }
    const int side = preprocess.input_size;
    const Window window = {crop_offset(width, side), crop_offset(height, side), side, side};
    return resize(image, width, height, preprocess.interpolation, window);
}

Image letterbox(const Image& image, const Preprocess& preprocess) {
    const int side = preprocess.input_size;
    const std::int64_t long_side = std::max(image.width, image.height);
    const auto resized = [&](std::int64_t length) {
        return std::max(1, int(std::llrint(double(side * length) / double(long_side))));
    };
    const int width = resized(image.width);
    const int height = resized(image.height);
    const Image small = resize(image, width, height, preprocess.interpolation, {0, 0, width, height});
    Image square(side, side);
    for (std::size_t i = 0; i < square.pixels.size(); ++i) {
        square.pixels[i] = std::uint8_t(std::clamp(std::llrint(255 * preprocess.mean[i % 3]), 0LL, 255LL));
    }
    const std::int64_t left = -crop_offset(width, side);
    const std::int64_t top = -crop_offset(height, side);
    for (int y = 0; y < height; ++y) {
        std::copy_n(small.row(y), std::size_t(width) * 3, square.row(int(top) + y) + left * 3);
    }
    return square;
}

}  // namespace

Image fit_to_square(const Image& image, const Preprocess& preprocess) {
    const int side = preprocess.input_size;
    switch (preprocess.fit) {
        case Fit::kSquash:
            return resize(image, side, side, preprocess.interpolation, {0, 0, side, side});
        case Fit::kLetterbox:
            return letterbox(image, preprocess);
        case Fit::kCrop:
            break;
    }
    return center_crop(image, preprocess);
}

void normalize(const Image& pixels, const Preprocess& preprocess, float* output) {
    const std::size_t num_pixels = std::size_t(pixels.width) * pixels.height;
    for (std::size_t channel = 0; channel < 3; ++channel) {
        const float scale = float(1 / (255 * preprocess.std[channel]));
        const float shift = float(-preprocess.mean[channel] / preprocess.std[channel]);
        for (std::size_t i = 0; i < num_pixels; ++i) {
            *output++ = float(pixels.pixels[3 * i + channel]) * scale + shift;
        }
    }
}

}  // namespace classify
