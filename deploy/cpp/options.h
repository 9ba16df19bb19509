// The flags of the program: those of infer.py that mean something here, and one more.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace classify {

struct Options {
    std::string model_file;
    std::string input_file;
    int batch_size = 1;
    std::optional<int> cpu_threads;
    int topk = 5;
    double threshold = 0.0;
    std::string save_path;
    bool enable_benchmark = false;
    std::string dump_input;
    bool help = false;
};

// Throws UsageError.
Options parse_options(const std::vector<std::string>& arguments);

std::string help_text();

}  // namespace classify
