// Each output pixel is a weighted sum of the input pixels under a filter that widens when the image shrinks. Weights
// are integers with 22 fractional bits; rows are summed first and rounded to 8 bits, then columns. That is how Pillow
// does it, so the pixels are the same.
#include "resize.h"

#include <algorithm>
#include <cmath>

namespace classify {
namespace {

// 32 bits less 8 of a pixel and 2 of head room: bicubic weights have a sum of magnitudes above 1.
constexpr int kFractionBits = 32 - 8 - 2;
constexpr std::int32_t kOne = 1 << kFractionBits;
constexpr std::int32_t kHalf = kOne / 2;

constexpr double kPi = 3.14159265358979323846;

double sinc(double x) {
    return x == 0.0 ? 1.0 : std::sin(x * kPi) / (x * kPi);
}

double bilinear(double x) {
    return std::max(0.0, 1.0 - std::abs(x));
}

// Keys' cubic with a = -1/2.
double bicubic(double x) {
    x = std::abs(x);
    if (x < 1.0) {
        return (1.5 * x - 2.5) * x * x + 1.0;
    }
    return x < 2.0 ? (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5 : 0.0;
}

double box(double x) {
    return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
}

double hamming(double x) {
    return std::abs(x) < 1.0 ? sinc(x) * (0.54 + 0.46 * std::cos(x * kPi)) : 0.0;
}

double lanczos(double x) {
    return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0;
}

struct Filter {
    double (*weight)(double distance);
    double radius;  // weights are zero beyond it
};

Filter filter_of(Interpolation interpolation) {
    switch (interpolation) {
        case Interpolation::kBilinear:
            return {bilinear, 1.0};
        case Interpolation::kBicubic:
            return {bicubic, 2.0};
        case Interpolation::kBox:
            return {box, 0.5};
        case Interpolation::kHamming:
            return {hamming, 1.0};
        case Interpolation::kLanczos:
            return {lanczos, 3.0};
        case Interpolation::kNearest:
            break;
    }
    return {nullptr, 0.0};
}

// The input pixels that one output pixel is made of.
struct Taps {
    int first;
    std::vector<std::int32_t> weights;
};

// Output pixels `begin` to `begin + count` of an axis resized from `input_size` to `output_size` pixels.
struct Axis {
    int input_size;
    std::int64_t output_size;
    std::int64_t begin;
    int count;
};

std::vector<Taps> filter_taps(const Axis& axis, const Filter& filter) {
    const double scale = double(axis.input_size) / double(axis.output_size);
    const double stretch = std::max(scale, 1.0);
    const double radius = filter.radius * stretch;
    std::vector<Taps> all(axis.count);
    std::vector<double> weights;
    for (int i = 0; i < axis.count; ++i) {
        const double center = (double(axis.begin + i) + 0.5) * scale;
        const int first = std::max(0, int(center - radius + 0.5));
        const int end = std::min(axis.input_size, int(center + radius + 0.5));
        weights.clear();
        double sum = 0.0;
        for (int x = first; x < end; ++x) {
            weights.push_back(filter.weight((x - center + 0.5) * (1.0 / stretch)));
            sum += weights.back();
        }
        all[i].first = first;
        for (const double weight : weights) {
            const double fixed = weight / sum * kOne;
            all[i].weights.push_back(std::int32_t(fixed < 0 ? fixed - 0.5 : fixed + 0.5));
        }
    }
    return all;
}

// Pillow finds the nearest pixel by adding up steps, and so do we: a product would round differently.
std::vector<Taps> nearest_taps(const Axis& axis) {
    const double step = double(axis.input_size) / double(axis.output_size);
    double position = step * 0.5;
    for (std::int64_t i = 0; i < axis.begin; ++i) {
        position += step;
    }
    std::vector<Taps> all(axis.count);
    for (Taps& taps : all) {
        taps = {std::min(int(position), axis.input_size - 1), {kOne}};
        position += step;
    }
    return all;
}

std::vector<Taps> make_taps(const Axis& axis, Interpolation interpolation) {
    return interpolation == Interpolation::kNearest ? nearest_taps(axis) : filter_taps(axis, filter_of(interpolation));
}

std::uint8_t to_pixel(std::int32_t sum) {
    return std::uint8_t(std::clamp(sum >> kFractionBits, 0, 255));
}

void resize_row(const std::uint8_t* input, const std::vector<Taps>& columns, std::uint8_t* output) {
    for (const Taps& taps : columns) {
        std::int32_t red = kHalf;
        std::int32_t green = kHalf;
        std::int32_t blue = kHalf;
        const std::uint8_t* pixel = input + std::size_t(taps.first) * 3;
        for (const std::int32_t weight : taps.weights) {
            red += weight * pixel[0];
            green += weight * pixel[1];
            blue += weight * pixel[2];
            pixel += 3;
        }
        *output++ = to_pixel(red);
        *output++ = to_pixel(green);
        *output++ = to_pixel(blue);
    }
}

// `sums` is scratch space of a row's length; `image` begins at row `first_row` of the whole.
void resize_column(const Image& image, int first_row, const Taps& taps, std::vector<std::int32_t>& sums,
                   std::uint8_t* output) {
    std::fill(sums.begin(), sums.end(), kHalf);
    int y = taps.first - first_row;
    for (const std::int32_t weight : taps.weights) {
        const std::uint8_t* row = image.row(y++);
        for (std::size_t i = 0; i < sums.size(); ++i) {
            sums[i] += weight * row[i];
        }
    }
    std::transform(sums.begin(), sums.end(), output, to_pixel);
}

}  // namespace

Image resize(const Image& image, std::int64_t width, std::int64_t height, Interpolation interpolation,
             const Window& window) {
    const std::vector<Taps> columns = make_taps({image.width, width, window.left, window.width}, interpolation);
    const std::vector<Taps> rows = make_taps({image.height, height, window.top, window.height}, interpolation);

    const int first_row = rows.front().first;
    const int end_row = rows.back().first + int(rows.back().weights.size());
    Image narrow(window.width, end_row - first_row);
    for (int y = 0; y < narrow.height; ++y) {
        resize_row(image.row(first_row + y), columns, narrow.row(y));
    }

    Image output(window.width, window.height);
    std::vector<std::int32_t> sums(std::size_t(window.width) * 3);
    for (int y = 0; y < output.height; ++y) {
        resize_column(narrow, first_row, rows[y], sums, output.row(y));
    }
    return output;
}

}  // namespace classify
