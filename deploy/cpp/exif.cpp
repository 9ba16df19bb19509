// TIFF 6.0: "II" or "MM", 42, offset of the directory; there a count and entries of tag, type, count, value.
#include "exif.h"

#include <optional>
#include <string>

namespace classify {
namespace {

constexpr std::uint32_t kTiffMagic = 42;
constexpr std::uint32_t kOrientationTag = 0x0112;
constexpr std::uint32_t kLongType = 4;
constexpr std::size_t kEntryBytes = 12;

class TiffReader {
 public:
    explicit TiffReader(const Bytes& data) : data_(data), is_little_(data.size() > 1 && data[0] == 'I') {}

    // The unsigned number of `num_bytes` at `offset`; 0 beyond the end.
    std::uint32_t number(std::size_t offset, std::size_t num_bytes) const {
        if (offset + num_bytes > data_.size()) {
            return 0;
        }
        std::uint32_t value = 0;
        for (std::size_t i = 0; i < num_bytes; ++i) {
            value = value << 8 | data_[offset + (is_little_ ? num_bytes - 1 - i : i)];
        }
        return value;
    }

 private:
    const Bytes& data_;
    bool is_little_;
};

std::optional<int> exif_orientation(const Bytes& exif) {
    const TiffReader tiff(exif);
    if (tiff.number(2, 2) != kTiffMagic) {
        return std::nullopt;
    }
    const std::size_t directory = tiff.number(4, 4);
    const std::size_t num_entries = tiff.number(directory, 2);
    for (std::size_t i = 0; i < num_entries; ++i) {
        const std::size_t entry = directory + 2 + i * kEntryBytes;
        if (tiff.number(entry, 2) == kOrientationTag) {
            return int(tiff.number(entry + 8, tiff.number(entry + 2, 2) == kLongType ? 4 : 2));
        }
    }
    return std::nullopt;
}

// Finds `tiff:Orientation="6"` or `<tiff:Orientation>6<`.
std::optional<int> xmp_orientation(const std::string& xmp) {
    for (const std::string start : {"tiff:Orientation=\"", "tiff:Orientation>"}) {
        const std::size_t position = xmp.find(start);
        const std::size_t digit = position + start.size();
        if (position != std::string::npos && digit < xmp.size() && xmp[digit] >= '0' && xmp[digit] <= '9') {
            return xmp[digit] - '0';
        }
    }
    return std::nullopt;
}

}  // namespace

int orientation(const Metadata& metadata) {
    std::optional<int> value = exif_orientation(metadata.exif);
    if (!value) {
        value = xmp_orientation(metadata.xmp);
    }
    return value && *value >= 1 && *value <= 8 ? *value : 1;
}

Image upright(const Image& image, int orientation) {
    // 2: mirrored; 3: rotated by 180 degrees; 4: both; 5 to 8: the same with rows and columns exchanged.
    const bool is_transposed = orientation >= 5;
    const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    const bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    Image output_image = is_transposed ? Image(image.height, image.width) : Image(image.width, image.height);
    for (int y = 0; y < output_image.height; ++y) {
        std::uint8_t* output = output_image.row(y);
        for (int x = 0; x < output_image.width; ++x) {
            const int column = is_transposed ? y : x;
            const int line = is_transposed ? x : y;
            const int source_x = from_right ? image.width - 1 - column : column;
            const int source_y = from_bottom ? image.height - 1 - line : line;
            const std::uint8_t* pixel = image.row(source_y) + std::size_t(source_x) * 3;
            *output++ = pixel[0];
            *output++ = pixel[1];
            *output++ = pixel[2];
        }
    }
    return output_image;
}

}  // namespace classify
