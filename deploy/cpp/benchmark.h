// Times of the stages, and the report of AutoLog's sections.
#pragma once

#include <array>
#include <chrono>
#include <string>
#include <vector>

namespace classify {

class StageTimes {
 public:
    void start();
    // Ends a stage: preprocessing, inference, postprocessing in turn.
    void stamp();

    const std::vector<std::vector<double>>& milliseconds() const {
        return milliseconds_;
    }

 private:
    std::chrono::steady_clock::time_point last_;
    std::vector<std::vector<double>> milliseconds_;  // [batches][stages]
};

// What was run and how, for the head of the report.
struct Conditions {
    std::string model_name;
    std::string engine;
    std::string precision;
    int batch_size;
    int input_size;
    std::size_t num_images;
};

std::string report(const Conditions& conditions, const StageTimes& times);

}  // namespace classify
