// SHA-256 (FIPS 180-4) of a text or a file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace classify {

struct FileRecord {
    std::uint64_t bytes;
    std::string sha256;  // 64 hexadecimal digits
};

// Computes the SHA-256 of `text`: 64 hexadecimal digits.
std::string sha256(const std::string& text);

// Computes size and checksum of the file at `path`, which must be readable.
FileRecord file_record(const std::filesystem::path& path);

}  // namespace classify
