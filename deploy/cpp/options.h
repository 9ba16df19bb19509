// The flags of the program: those of infer.py that apply to OpenVINO on a CPU, and --dump_input.
#pragma once

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

namespace classify {

struct Options {
    std::string model_file;
    std::string input_file;
    int batch_size = 1;
    int cpu_threads = std::max(1, int(std::thread::hardware_concurrency()));
    std::string precision = "fp32";
    int topk = 5;
    double threshold = 0.0;
    std::string save_path;
    bool enable_benchmark = false;
    std::string dump_input;
    bool help = false;
};

// Parses the command line. Throws UsageError.
Options parse_options(const std::vector<std::string>& arguments);

// The text of --help.
std::string help_text();

}  // namespace classify
