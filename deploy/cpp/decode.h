// The bytes of a JPEG or PNG file to RGB pixels, equal to Pillow's `convert("RGB")`.
#pragma once

#include <filesystem>
#include <string>

#include "image.h"

namespace classify {

enum class ExifOrientation { kIgnore, kApply };

// Decodes the file at `path`. Throws BadImage with the reason.
Image read_image(const std::filesystem::path& path, ExifOrientation exif_orientation);

// Where a camera or an editor wrote the orientation; empty where the file has no such block.
struct Metadata {
    Bytes exif;  // from the TIFF header on
    std::string xmp;
};

struct Decoded {
    Image image;
    Metadata metadata;
};

// Decode `data`, which begins as the format says. Throw BadImage.
Decoded decode_jpeg(const Bytes& data);
Decoded decode_png(const Bytes& data);

// Throws BadImage if the header promises more pixels than datasets/reading/decode.py takes.
void check_num_pixels(std::uint64_t width, std::uint64_t height);

}  // namespace classify
