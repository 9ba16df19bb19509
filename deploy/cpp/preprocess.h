// Preprocessing with the values of the card: the C++ version of datasets/preprocess.py.
#pragma once

#include <array>

#include "decode.h"
#include "image.h"
#include "resize.h"

namespace classify {

struct Preprocess {
    int input_size;
    int resize_size;  // of the short side
    Interpolation interpolation;
    std::array<double, 3> mean;
    std::array<double, 3> std;
    ExifOrientation exif_orientation;
};

// Resizes the short side to `resize_size` and crops the centre: [S, S, 3].
Image resize_and_crop(const Image& image, const Preprocess& preprocess);

// Writes the input of a model, [3, S, S] float32, to `output`.
void normalize(const Image& pixels, const Preprocess& preprocess, float* output);

}  // namespace classify
