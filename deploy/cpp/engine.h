// The ONNX program on OpenVINO: arrays in, logits out.
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

    // Logits [count, num_classes] of `images` [count, 3, S, S], at most a batch. A smaller batch is filled up with what
    // the last one left, because a program of one fixed shape is the fastest. Throws ExportedModelError for nan and
    // inf.
    std::vector<float> run(const std::vector<float>& images, std::size_t count);

    std::string description() const;

 private:
    std::filesystem::path path_;
    std::size_t num_classes_;
    int num_threads_;
    ov::InferRequest request_;
};

}  // namespace classify
