// Exported folder + images -> the most probable classes: the C++ twin of infer.py.
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
#include "records.h"
#include "self_check.h"
#include "topk.h"

namespace classify {
namespace {

// Writes the records of `batch` to `output` and its failures to stderr; returns the number of failures.
std::size_t write_records(const Batch& batch, const std::vector<float>& logits, const Card& card,
                          const Options& options, std::ostream& output) {
    const float* next = logits.data();
    std::size_t num_failures = 0;
    for (const File& file : batch.files) {
        if (file.error.empty()) {
            const auto answers =
                topk(next, std::size_t(card.num_classes), std::size_t(options.topk), options.threshold);
            output << record_line(file.path, answers, card.class_names) << '\n';
            next += card.num_classes;
        } else {
            output << failure_line(file.path, file.error) << '\n';
            std::cerr << "error: " << file.path << ": " << file.error << '\n';
            ++num_failures;
        }
    }
    output.flush();
    return num_failures;
}

std::ofstream open_output(const std::string& path) {
    if (path.size() < 6 || path.compare(path.size() - 6, 6, ".jsonl") != 0) {
        throw UsageError("--save_path " + path + ": records are written to a .jsonl file");
    }
    std::ofstream file(path);
    if (!file) {
        throw UsageError("--save_path " + path + ": cannot be written");
    }
    return file;
}

void answer(const Options& options) {
    const std::filesystem::path folder = exported_folder(options.model_file);
    const Card card = read_card(folder);
    const Program program = find_program(card, options.model_file, options.precision == "int8" ? "onnx-int8" : "onnx");
    verify_files(card, folder, program.files);
    const std::vector<std::string> paths = find_images(options.input_file);
    const std::size_t batch_size = std::min(std::size_t(options.batch_size), paths.size());  // each is computed whole
    Engine engine(folder, program, card, {int(batch_size), options.cpu_threads});
    if (program.name != "onnx-int8") {  // whose answers are near those of the export, not equal
        self_check(engine, folder, card);
    }
    std::cerr << "engine: " << engine.description() << '\n';
    std::ofstream file = options.save_path.empty() ? std::ofstream() : open_output(options.save_path);
    std::ostream& output = options.save_path.empty() ? std::cout : file;
    const auto dump = options.dump_input.empty()
                          ? nullptr
                          : std::make_unique<NpyWriter>(options.dump_input, card.preprocess.input_size);

    // The next batch is read while the network works on this one; a benchmark takes the stages one by one.
    const std::launch when = options.enable_benchmark ? std::launch::deferred : std::launch::async;
    const auto load = [&](std::size_t first) { return load_batch(paths, first, batch_size, card.preprocess); };
    StageTimes times;
    std::size_t num_failures = 0;
    std::future<Batch> next = std::async(when, load, 0);
    for (std::size_t first = 0; first < paths.size(); first += batch_size) {
        times.start();
        const Batch batch = next.get();
        times.stamp();
        if (first + batch_size < paths.size()) {
            next = std::async(when, load, first + batch_size);
        }
        const std::vector<float> logits = engine.run(batch.images, batch.num_images);
        times.stamp();
        num_failures += write_records(batch, logits, card, options, output);
        times.stamp();
        if (dump) {
            dump->append(batch.images, batch.num_images);
        }
    }
    if (options.enable_benchmark) {
        std::cerr << report({card.architecture, engine.description(), options.precision, options.batch_size,
                             card.preprocess.input_size, paths.size()},
                            times);
    }
    if (!output || (dump && !dump->is_whole())) {
        throw DataError("not everything could be written; is the disk full?");
    }
    if (num_failures > 0) {
        throw DataError(std::to_string(num_failures) + " of " + std::to_string(paths.size()) +
                        " images could not be read; the others were answered");
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
        classify::answer(options);
        return 0;
    } catch (const classify::Error& error) {
        std::cerr << "error: " << error.what() << '\n';
        return error.exit_code();
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << '\n';
        return 1;
    }
}
