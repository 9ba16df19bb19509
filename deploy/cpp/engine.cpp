// Compiles for one batch size, in float32 as trained: the default of OpenVINO is bfloat16 where the processor has it.
#include "engine.h"

#include <algorithm>
#include <cmath>

#include "errors.h"

namespace classify {
namespace {

// The last line of an error message of OpenVINO; the lines before it are positions in its source code.
std::string last_line(const std::exception& error) {
    std::string text = error.what();
    text.erase(text.find_last_not_of(" \n") + 1);
    return text.substr(text.find_last_of('\n') + 1);  // npos + 1 is 0: the whole text
}

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& reason) {
    throw ExportedModelError(path.string() + ": " + reason + "; export the model again with export_model.py");
}

// Fixes the shape of the input. Throws ExportedModelError if the program takes another shape.
void set_input_shape(ov::Model& model, const std::string& name, const ov::PartialShape& shape,
                     const std::filesystem::path& path) {
    const ov::PartialShape accepted = model.input(name).get_partial_shape();
    if (!accepted.compatible(shape)) {
        refuse(path, "takes images " + accepted.to_string() + ", card.yaml says " + shape.to_string());
    }
    model.reshape({{name, shape}});
}

}  // namespace

Engine::Engine(const std::filesystem::path& folder, const Program& program, const Card& card,
               const EngineOptions& options)
    : path_(folder / program.files.front()),
      num_classes_(std::size_t(card.num_classes)),
      num_threads_(options.num_threads) {
    const std::int64_t side = card.preprocess.input_size;
    try {
        ov::Core core;
        const std::shared_ptr<ov::Model> model = core.read_model(path_.string());
        set_input_shape(*model, program.input_name, {options.batch_size, 3, side, side}, path_);
        const ov::PartialShape output = model->output(program.output_name).get_partial_shape();
        if (!output.compatible({options.batch_size, card.num_classes})) {
            refuse(path_,
                   "gives " + output.to_string() + ", card.yaml says " + std::to_string(card.num_classes) + " classes");
        }
        ov::CompiledModel compiled =
            core.compile_model(model, "CPU", ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY),
                               ov::num_streams(1), ov::inference_num_threads(num_threads_),
                               ov::hint::inference_precision(ov::element::f32), ov::hint::enable_cpu_pinning(false));
        request_ = compiled.create_infer_request();
        ov::Tensor blank = request_.get_input_tensor();
        std::fill_n(blank.data<float>(), blank.get_size(), 0.0F);
    } catch (const ov::Exception& error) {
        refuse(path_, "OpenVINO cannot run it: " + last_line(error));
    }
}

std::vector<float> Engine::run(const std::vector<float>& images, std::size_t count) {
    ov::Tensor input = request_.get_input_tensor();
    std::copy_n(images.begin(), count * input.get_size() / input.get_shape()[0], input.data<float>());
    try {
        request_.infer();
    } catch (const ov::Exception& error) {
        refuse(path_, "OpenVINO cannot run it: " + last_line(error));
    }
    const float* output = request_.get_output_tensor().data<const float>();
    std::vector<float> logits(output, output + count * num_classes_);
    if (!std::all_of(logits.begin(), logits.end(), [](float logit) { return std::isfinite(logit); })) {
        refuse(path_, "gives nan or inf");
    }
    return logits;
}

std::string Engine::description() const {
    return std::string("OpenVINO ") + ov::get_openvino_version().buildNumber + " on CPU, " +
           std::to_string(num_threads_) + (num_threads_ == 1 ? " thread" : " threads");
}

}  // namespace classify
