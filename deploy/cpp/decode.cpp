// Reads a file and chooses the decoder by the first bytes; the file name does not matter.
#include "decode.h"

#include <algorithm>
#include <fstream>

#include "errors.h"
#include "exif.h"

namespace classify {
namespace {

constexpr std::uintmax_t kMaxBytes = 64 << 20;  // as in datasets/reading/limits.py

const Bytes kJpegStart = {0xff, 0xd8, 0xff};
const Bytes kPngStart = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

bool starts_with(const Bytes& data, const Bytes& start) {
    return data.size() >= start.size() && std::equal(start.begin(), start.end(), data.begin());
}

Bytes read_file(const std::filesystem::path& path) {
    std::error_code error;
    if (!std::filesystem::exists(path, error)) {
        throw BadImage("no such file");
    }
    if (!std::filesystem::is_regular_file(path, error)) {
        throw BadImage("not a regular file");
    }
    const std::uintmax_t num_bytes = std::filesystem::file_size(path, error);
    if (error) {
        throw BadImage(error.message());
    }
    if (num_bytes > kMaxBytes) {
        throw BadImage(std::to_string(num_bytes >> 20) + " MB; the limit is " + std::to_string(kMaxBytes >> 20) +
                       " MB");
    }
    Bytes data(num_bytes);
    std::ifstream file(path, std::ios::binary);
    if (!file.read(reinterpret_cast<char*>(data.data()), std::streamsize(num_bytes))) {
        throw BadImage("cannot be read");
    }
    return data;
}

Decoded decode(const Bytes& data, bool may_turn) {
    if (starts_with(data, kJpegStart)) {
        return decode_jpeg(data, may_turn);
    }
    if (starts_with(data, kPngStart)) {
        return decode_png(data, may_turn);
    }
    throw BadImage("not a JPEG or PNG, the formats of this program; infer.py reads more formats");
}

}  // namespace

Image read_image(const std::filesystem::path& path, ExifOrientation exif_orientation) {
    const bool may_turn = exif_orientation == ExifOrientation::kApply;
    Decoded decoded = decode(read_file(path), may_turn);
    const int stored = may_turn ? orientation(decoded.metadata) : 1;
    return stored == 1 ? std::move(decoded.image) : upright(decoded.image, stored);
}

}  // namespace classify
