// Rounds as datasets/preprocess.py, so that the arrays are equal bit for bit.
#include "preprocess.h"

#include <cmath>

namespace classify {
namespace {

// Rounds halves to the even number, as round() of Python.
std::int64_t crop_offset(std::int64_t size, std::int64_t crop_size) {
    return std::llrint(double(size - crop_size) / 2);
}

}  // namespace

Image resize_and_crop(const Image& image, const Preprocess& preprocess) {
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
