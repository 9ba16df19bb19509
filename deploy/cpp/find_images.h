// Lists the image files at a path.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace classify {

struct ImageList {
    std::vector<std::string> paths;
    std::size_t num_skipped = 0;  // hidden files and folders, and those of operating systems
};

// Lists `path` if it is a file, whatever its name; if it is a folder, all images below it, sorted. Throws DataError:
// there is no image.
ImageList find_images(const std::filesystem::path& path);

}  // namespace classify
