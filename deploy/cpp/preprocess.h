// Preprocessing with the values of the card: the C++ version of datasets/preprocess.py.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "decode.h"
#include "image.h"
#include "resize.h"

namespace classify {

// How an image is fitted into the square: its centre, stretched, or in its own shape with a border.
enum class Fit { kCrop, kSquash, kLetterbox };

// Names in the card, in the order of the enumeration.
inline const std::vector<std::string> kFitNames = {"crop", "squash", "letterbox"};

struct Preprocess {
    int input_size;
    int resize_size;  // of the short side, for kCrop
    Fit fit;
    Interpolation interpolation;
    std::array<double, 3> mean;
    std::array<double, 3> std;
    ExifOrientation exif_orientation;
};

// Fits an image into the square: [S, S, 3]. The border of a letterbox has the mean colour.
Image fit_to_square(const Image& image, const Preprocess& preprocess);

// Writes the input of a model, [3, S, S] float32, to `output`.
void normalize(const Image& pixels, const Preprocess& preprocess, float* output);

}  // namespace classify
