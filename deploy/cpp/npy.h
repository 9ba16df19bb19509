// Arrays as a .npy file (format 1.0), for comparing with Python.
#pragma once

#include <cstddef>
#include <fstream>
#include <string>
#include <vector>

namespace classify {

class NpyWriter {
 public:
    // Images of [3, side, side] float32 will be appended to the file at `path`.
    NpyWriter(const std::string& path, int side);

    void append(const std::vector<float>& images, std::size_t count);

    // Whether all of it was written.
    bool is_whole();

 private:
    void write_header();

    std::ofstream file_;
    int side_;
    std::size_t num_images_ = 0;
};

}  // namespace classify
