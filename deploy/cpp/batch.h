// Some image files, read and preprocessed.
#pragma once

#include <string>
#include <vector>

#include "preprocess.h"

namespace classify {

struct File {
    std::string path;
    std::string error;  // why it could not be read; empty if it was
};

struct Batch {
    std::vector<File> files;
    std::vector<float> images;  // [num_images, 3, S, S], of those that could be read
    std::size_t num_images = 0;
};

// Reads files `first` to `first + batch_size` of `paths`, or up to the last.
Batch load_batch(const std::vector<std::string>& paths, std::size_t first, std::size_t batch_size,
                 const Preprocess& preprocess);

}  // namespace classify
