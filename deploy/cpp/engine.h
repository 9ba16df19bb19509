// The ONNX program on OpenVINO: arrays in, logits out.
#pragma once

#include <filesystem>
#include <openvino/openvino.hpp>
#include <optional>
#include <string>
#include <vector>

#include "card.h"

namespace classify {

struct EngineOptions {
    int batch_size;
    std::optional<int> num_threads;  // none: every core this process may use
};

class Engine {
 public:
    // Loads `program` of `folder` and tries it on a blank batch. Throws ExportedModelError: the program is damaged, or
    // does not fit `card`.
    Engine(const std::filesystem::path& folder, const Program& program, const Card& card, const EngineOptions& options);

    // Logits [count, num_classes] of `images` [count, 3, S, S], at most a batch. A smaller batch is filled up with what
    // the last one left, because a program of one fixed shape is the fastest.
    std::vector<float> run(const std::vector<float>& images, std::size_t count);

    std::string description() const;

 private:
    std::filesystem::path path_;
    std::size_t num_classes_;
    ov::InferRequest request_;
    int num_threads_;
};

}  // namespace classify
