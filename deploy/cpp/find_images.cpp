// Finds the same files in the same order as datasets/reading/image_folder.py.
#include "find_images.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "errors.h"

namespace classify {
namespace {

namespace fs = std::filesystem;

// As in datasets/reading/decode.py. A file of a format that this program cannot read gets a failed prediction.
const std::vector<std::string> kExtensions = {".jpg", ".jpeg", ".jpe", ".jfif", ".jfi",  ".png", ".ppm",
                                              ".bmp", ".pgm",  ".tif", ".tiff", ".webp", ".gif"};

// As in datasets/reading/image_folder.py: names that systems and programs add to folders and archives.
const std::vector<std::string> kSystemNames = {
    "__macosx",   "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information",
    "lost+found", "@eadir",    "#recycle",    "icon\r"};

std::string lower_case(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    return text;
}

bool is_system_name(const std::string& name) {
    return name[0] == '.' ||
           std::find(kSystemNames.begin(), kSystemNames.end(), lower_case(name)) != kSystemNames.end();
}

bool has_image_extension(const std::string& file_name) {
    const std::string name = lower_case(file_name);
    return std::any_of(kExtensions.begin(), kExtensions.end(), [&](const std::string& extension) {
        return name.size() >= extension.size() &&
               name.compare(name.size() - extension.size(), extension.size(), extension) == 0;
    });
}

// Adds the images below `folder` to `images`. `visited` has the folders that were searched: each folder is searched
// once, however many links lead to it.
void search(const fs::path& folder, std::set<fs::path>& visited, ImageList& images) {
    if (!visited.insert(fs::canonical(folder)).second) {
        return;
    }
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
        const std::string name = entry.path().filename().string();
        std::error_code ignored;  // of a link to itself
        if (is_system_name(name)) {
            ++images.num_skipped;
        } else if (entry.is_directory(ignored)) {
            search(entry.path(), visited, images);
        } else if (has_image_extension(name)) {
            images.paths.push_back(entry.path().string());
        }
    }
}

}  // namespace

ImageList find_images(const fs::path& path) {
    std::error_code ignored;
    if (!fs::exists(path, ignored)) {
        throw DataError(path.string() + ": no such file or folder");
    }
    if (!fs::is_directory(path)) {
        return {{path.string()}, 0};
    }
    ImageList images;
    std::set<fs::path> visited;
    try {
        search(path, visited, images);
    } catch (const fs::filesystem_error& error) {
        throw DataError(error.path1().string() + ": " + error.code().message());
    }
    if (images.paths.empty()) {
        std::string extensions;
        for (const std::string& extension : kExtensions) {
            extensions += " " + extension;
        }
        throw DataError(path.string() + ": no image in this folder or below; looked for" + extensions + " in any case");
    }
    std::sort(images.paths.begin(), images.paths.end());
    return images;
}

}  // namespace classify
