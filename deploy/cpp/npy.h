// Writes arrays to a .npy file (format 1.0), for comparisons with Python.
#pragma once

#include <cstddef>
#include <fstream>
#include <string>
#include <vector>

namespace classify {

class NpyWriter {
 public:
    // Creates the file for images [3, side, side] float32. Throws UsageError.
    NpyWriter(const std::string& path, int side);

    // Appends `images` [count, 3, side, side].
    void append(const std::vector<float>& images, std::size_t count);

    // Whether all images were written.
    bool is_complete();

 private:
    void write_header();

    std::ofstream file_;
    int side_;
    std::size_t num_images_ = 0;
};

}  // namespace classify
