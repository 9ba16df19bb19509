// Measures the stages of each batch, and formats the report in the sections of AutoLog.
#pragma once

#include <array>
#include <chrono>
#include <string>
#include <vector>

namespace classify {

class StageTimer {
 public:
    // Begins a batch.
    void start();
    // Ends a stage: first preprocessing, then inference, then postprocessing.
    void stamp();

    const std::vector<std::vector<double>>& milliseconds() const {
        return milliseconds_;
    }

 private:
    std::chrono::steady_clock::time_point last_;
    std::vector<std::vector<double>> milliseconds_;  // [batches][stages]
};

// Model, engine and settings of a run, for the head of the report.
struct Conditions {
    std::string model_name;
    std::string engine;
    std::string precision;
    int batch_size;
    int input_size;
    std::size_t num_images;
};

// Formats the report.
std::string report(const Conditions& conditions, const StageTimer& timer);

}  // namespace classify
