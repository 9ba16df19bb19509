// Runs an ONNX program on OpenVINO: preprocessed images to logits.
#pragma once

#include <filesystem>
#include <openvino/openvino.hpp>
#include <string>
#include <vector>

#include "card.h"

namespace classify {

struct EngineOptions {
    int batch_size;
    int num_threads;
};

class Engine {
 public:
    // Loads `program` of `folder`. Throws ExportedModelError: the program is damaged, or does not fit `card`.
    Engine(const std::filesystem::path& folder, const Program& program, const Card& card, const EngineOptions& options);

    // Computes the logits [count, num_classes] of `images` [count, 3, S, S]; `count` is at most the batch size. A
    // smaller batch is computed as a whole batch, because a program of a fixed shape is the fastest. Throws
    // ExportedModelError for nan and inf.
    std::vector<float> run(const std::vector<float>& images, std::size_t count);

    // Runtime, device and number of threads, for people.
    std::string description() const;

 private:
    std::filesystem::path path_;
    std::size_t num_classes_;
    int num_threads_;
    ov::InferRequest request_;
};

}  // namespace classify
