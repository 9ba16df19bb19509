// Predicts the classes of images with an exported folder: the C++ version of infer.py.
#include <algorithm>
#include <fstream>
#include <future>
#include <iostream>
#include <memory>

#include "batch.h"
#include "benchmark.h"
#include "card.h"
#include "engine.h"
#include "errors.h"
#include "find_images.h"
#include "npy.h"
#include "options.h"
#include "predictions.h"
#include "printable.h"
#include "self_check.h"
#include "topk.h"

namespace classify {
namespace {

constexpr int kMaxAttempts = 5;  // to read an export while another one replaces it

// Writes the predictions of `batch` to `output` and its failures to stderr; returns the number of failures.
std::size_t write_predictions(const Batch& batch, const std::vector<float>& logits, const Card& card,
                              const Options& options, std::ostream& output) {
    const Selection selection = {std::size_t(options.topk), options.threshold, card.temperature};
    const float* next = logits.data();
    std::size_t num_failures = 0;
    for (const File& file : batch.files) {
        if (file.error.empty()) {
            const auto classes = most_probable(next, std::size_t(card.num_classes), selection);
            output << prediction_line(file.path, classes, card.class_names) << '\n';
            next += card.num_classes;
        } else {
            output << failed_prediction_line(file.path, file.error) << '\n';
            std::cerr << "error: " << printable(file.path + ": " + file.error) << '\n';
            ++num_failures;
        }
    }
    output.flush();
    return num_failures;
}

std::ofstream open_output(const std::string& path) {
    if (path.size() < 6 || path.compare(path.size() - 6, 6, ".jsonl") != 0) {
        throw UsageError("--save_path " + path + ": predictions are written to a .jsonl file");
    }
    std::ofstream file(path);
    if (!file) {
        throw UsageError("--save_path " + path + ": cannot be written");
    }
    return file;
}

// A card and an engine that runs a program of the same export.
struct Model {
    Card card;
    std::unique_ptr<Engine> engine;
};

Model load_verified(const Options& options, const std::filesystem::path& folder, std::size_t batch_size) {
    const std::filesystem::path source = folder_of_files(folder);
    const Card card = read_card(source);
    const Program program = find_program(card, options.model_file, options.precision == "int8" ? "onnx-int8" : "onnx");
    verify_files(card, source, program.files);
    auto engine =
        std::make_unique<Engine>(source, program, card, EngineOptions{int(batch_size), options.cpu_threads});
    if (program.name != "onnx-int8") {  // the logits of INT8 differ between processors
        self_check(*engine, source, card);
    }
    return {card, std::move(engine)};
}

// Loads a program, again if another export replaces this one meanwhile, so that all files are of one of the two.
Model load(const Options& options, std::size_t batch_size) {
    const std::filesystem::path folder = exported_folder(options.model_file);
    for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
        const std::string before = export_identity(folder);
        try {
            Model model = load_verified(options, folder, batch_size);
            if (export_identity(folder) == before) {
                return model;
            }
        } catch (const Error&) {
            if (export_identity(folder) == before) {
                throw;
            }
        }
    }
    throw ExportedModelError(folder.string() + ": was replaced by another export during each of " +
                             std::to_string(kMaxAttempts) + " attempts to read it; try again");
}

void predict(const Options& options) {
    const ImageList images = find_images(options.input_file);
    const std::vector<std::string>& paths = images.paths;
    if (images.num_skipped > 0) {
        std::cerr << "warning: skipped " << images.num_skipped << " hidden and system files and folders\n";
    }
    // The program has a fixed batch size, so a batch size above the number of images would only cost time.
    const std::size_t batch_size = std::min(std::size_t(options.batch_size), paths.size());
    const Model model = load(options, batch_size);
    const Card& card = model.card;
    Engine& engine = *model.engine;
    std::cerr << "engine: " << printable(engine.description()) << '\n';
    std::ofstream file = options.save_path.empty() ? std::ofstream() : open_output(options.save_path);
    std::ostream& output = options.save_path.empty() ? std::cout : file;
    const auto dump = options.dump_input.empty()
                          ? nullptr
                          : std::make_unique<NpyWriter>(options.dump_input, card.preprocess.input_size);

    // The next batch is read while the network computes this one; a benchmark runs the stages one by one.
    const std::launch policy = options.enable_benchmark ? std::launch::deferred : std::launch::async;
    const auto load = [&](std::size_t first) { return load_batch(paths, first, batch_size, card.preprocess); };
    StageTimer timer;
    std::size_t num_failures = 0;
    std::future<Batch> next = std::async(policy, load, 0);
    for (std::size_t first = 0; first < paths.size(); first += batch_size) {
        timer.start();
        const Batch batch = next.get();
        timer.stamp();
        if (first + batch_size < paths.size()) {
            next = std::async(policy, load, first + batch_size);
        }
        const std::vector<float> logits = engine.run(batch.images, batch.num_images);
        timer.stamp();
        num_failures += write_predictions(batch, logits, card, options, output);
        timer.stamp();
        if (dump) {
            dump->append(batch.images, batch.num_images);
        }
    }
    if (options.enable_benchmark) {
        std::cerr << report({printable(card.architecture), engine.description(), options.precision, options.batch_size,
                             card.preprocess.input_size, paths.size()},
                            timer);
    }
    if (!output || (dump && !dump->is_complete())) {
        throw DataError("the output could not be written completely; is the disk full?");
    }
    if (num_failures > 0) {
        throw DataError(std::to_string(num_failures) + " of " + std::to_string(paths.size()) +
                        " images could not be read; the others have predictions");
    }
}

}  // namespace
}  // namespace classify

int main(int argc, char** argv) {
    try {
        const classify::Options options = classify::parse_options({argv + 1, argv + argc});
        if (options.help) {
            std::cout << classify::help_text();
            return 0;
        }
        classify::predict(options);
        return 0;
    } catch (const classify::Error& error) {
        std::cerr << classify::printable_lines(std::string("error: ") + error.what()) << '\n';
        return error.exit_code();
    } catch (const std::exception& error) {
        std::cerr << classify::printable_lines(std::string("error: ") + error.what()) << '\n';
        return 1;
    }
}
