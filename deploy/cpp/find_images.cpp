// Finds the same files in the same order as datasets/reading/image_folder.py.
#include "find_images.h"

#include <algorithm>
#include <cctype>

#include "errors.h"

namespace classify {
namespace {

namespace fs = std::filesystem;

// Those of datasets/reading/decode.py. What this program cannot read is reported, not passed over.
const std::vector<std::string> kExtensions = {".jpg", ".jpeg", ".png",  ".ppm",  ".bmp",
                                              ".pgm", ".tif",  ".tiff", ".webp", ".gif"};

bool has_image_extension(std::string name) {
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    return std::any_of(kExtensions.begin(), kExtensions.end(), [&](const std::string& extension) {
        return name.size() >= extension.size() &&
               name.compare(name.size() - extension.size(), extension.size(), extension) == 0;
    });
}

// `above` are the folders on the way here: a link back to one of them is not followed.
void walk(const fs::path& folder, std::vector<fs::path>& above, std::vector<std::string>& found) {
    const fs::path identity = fs::canonical(folder);
    if (std::find(above.begin(), above.end(), identity) != above.end()) {
        return;
    }
    above.push_back(identity);
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
        std::error_code ignored;  // of a link to itself
        if (entry.is_directory(ignored)) {
            walk(entry.path(), above, found);
        } else if (has_image_extension(entry.path().filename().string())) {
            found.push_back(entry.path().string());
        }
    }
    above.pop_back();
}

}  // namespace

std::vector<std::string> find_images(const fs::path& path) {
    std::error_code ignored;
    if (!fs::exists(path, ignored)) {
        throw DataError(path.string() + ": no such file or folder");
    }
    if (!fs::is_directory(path)) {
        return {path.string()};
    }
    std::vector<std::string> found;
    std::vector<fs::path> above;
    try {
        walk(path, above, found);
    } catch (const fs::filesystem_error& error) {
        throw DataError(error.path1().string() + ": " + error.code().message());
    }
    if (found.empty()) {
        std::string looked_for;
        for (const std::string& extension : kExtensions) {
            looked_for += " " + extension;
        }
        throw DataError(path.string() + ": no image in this folder or below; looked for" + looked_for + " in any case");
    }
    std::sort(found.begin(), found.end());
    return found;
}

}  // namespace classify
