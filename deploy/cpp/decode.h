// Decodes JPEG and PNG files to RGB pixels, equal to `convert("RGB")` of Pillow.
#pragma once

#include <filesystem>
#include <string>

#include "image.h"

namespace classify {

enum class ExifOrientation { kIgnore, kApply };

// Decodes the file at `path`. Throws BadImage with the reason.
Image read_image(const std::filesystem::path& path, ExifOrientation exif_orientation);

// Blocks of a file in which the orientation is stored; empty if the file does not have them.
struct Metadata {
    Bytes exif;  // from the TIFF header on
    std::string xmp;
};

struct Decoded {
    Image image;
    Metadata metadata;
};

// Decode `data`, whose first bytes are those of the format, within the limits of limits.h; `may_turn` says whether the
// image is rotated afterwards if its metadata say so. Throw BadImage.
Decoded decode_jpeg(const Bytes& data, bool may_turn);
Decoded decode_png(const Bytes& data, bool may_turn);

}  // namespace classify
