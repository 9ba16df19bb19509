// The images that a path names.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace classify {

// A file as it is, whatever its name; a folder as all images below it, sorted. Throws DataError: nothing there.
std::vector<std::string> find_images(const std::filesystem::path& path);

}  // namespace classify
