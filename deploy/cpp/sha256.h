// SHA-256 of a file, or of a text (FIPS 180-4).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace classify {

struct FileRecord {
    std::uint64_t bytes;
    std::string sha256;  // 64 hexadecimal digits
};

// 64 hexadecimal digits.
std::string sha256(const std::string& text);

// Size and checksum of the file at `path`, which must be readable.
FileRecord file_record(const std::filesystem::path& path);

}  // namespace classify
