// An output pixel is a weighted sum of the input pixels below a filter, which is wider if the image becomes smaller.
// Weights are integers with 22 fractional bits; rows are summed first and rounded to 8 bits, then columns. Pillow does
// the same, so the pixels are equal.
#include "resize.h"

#include <algorithm>
#include <cmath>

namespace classify {
namespace {

// 32 bits minus 8 of a pixel and 2 against overflow: the absolute bicubic weights have a sum above 1.
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

// The cubic of Keys (1981) with a = -1/2.
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
    return std::abs(x) < 1.0 ? sinc(x) * (0.54F + 0.46F * std::cos(x * kPi)) : 0.0;
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

// The input pixels of one output pixel, and their weights.
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

// Sums along columns. The first row of `image` is row `first_row` of the whole image.
Image resize_height(const Image& image, int first_row, const std::vector<Taps>& rows) {
    Image output(image.width, int(rows.size()));
    std::vector<std::int32_t> sums(std::size_t(image.width) * 3);
    for (int y = 0; y < output.height; ++y) {
        std::fill(sums.begin(), sums.end(), kHalf);
        int source_y = rows[y].first - first_row;
        for (const std::int32_t weight : rows[y].weights) {
            const std::uint8_t* row = image.row(source_y++);
            for (std::size_t i = 0; i < sums.size(); ++i) {
                sums[i] += weight * row[i];
            }
        }
        std::transform(sums.begin(), sums.end(), output.row(y), to_pixel);
    }
    return output;
}

// Sums along rows, from `first_row` to `end_row`.
Image resize_width(const Image& image, int first_row, int end_row, const std::vector<Taps>& columns) {
    Image output(int(columns.size()), end_row - first_row);
    for (int y = 0; y < output.height; ++y) {
        resize_row(image.row(first_row + y), columns, output.row(y));
    }
    return output;
}

}  // namespace

Image resize(const Image& image, std::int64_t width, std::int64_t height, Interpolation interpolation,
             const Window& window) {
    const std::vector<Taps> columns = make_taps({image.width, width, window.left, window.width}, interpolation);
    const std::vector<Taps> rows = make_taps({image.height, height, window.top, window.height}, interpolation);
    // Each pass rounds to 8 bits, so their order changes the result. Pillow 13 begins with the side that loses more
    // pixels; earlier versions always begin with the width.
    const bool is_height_first = height < image.height && image.height - height > 2 * (image.width - width);
    if (is_height_first) {
        return resize_width(resize_height(image, 0, rows), 0, window.height, columns);
    }
    const int first_row = rows.front().first;
    const int end_row = rows.back().first + int(rows.back().weights.size());
    return resize_height(resize_width(image, first_row, end_row, columns), first_row, rows);
}

}  // namespace classify
