// A batch of image files, decoded and preprocessed.
#pragma once

#include <string>
#include <vector>

#include "preprocess.h"

namespace classify {

struct File {
    std::string path;
    std::string error;  // why the file could not be read; empty if it was read
};

struct Batch {
    std::vector<File> files;
    std::vector<float> images;  // [num_images, 3, S, S], only of files that were read
    std::size_t num_images = 0;
};

// Reads and preprocesses the files `first` to `first + batch_size` of `paths`, or to the end of `paths`.
Batch load_batch(const std::vector<std::string>& paths, std::size_t first, std::size_t batch_size,
                 const Preprocess& preprocess);

}  // namespace classify
