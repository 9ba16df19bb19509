// The report of deploy/benchmark_report.py in the same order and words, without the versions of Paddle.
#include "benchmark.h"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

namespace classify {
namespace {

constexpr std::array<const char*, 3> kStages = {"preprocess_time", "inference_time", "postprocess_time"};

std::string fixed(double value) {
    char text[64];
    std::snprintf(text, sizeof text, "%.4f", value);
    return text;
}

double sum(const std::vector<double>& values) {
    return std::accumulate(values.begin(), values.end(), 0.0);
}

// Interpolates linearly between two values, as numpy.percentile.
double percentile(std::vector<double> values, double percent) {
    std::sort(values.begin(), values.end());
    const double position = percent / 100 * double(values.size() - 1);
    const auto below = std::size_t(position);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (values[above] - values[below]) * (position - double(below));
}

double peak_memory_mb() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return double(usage.ru_maxrss) / 1024;
}

std::string title(const std::string& name) {
    return "---------------------- " + name + " ----------------------\n";
}

std::string percentiles(const std::string& name, const std::vector<double>& values, std::size_t num_images) {
    return " " + name + "(ms) p50: " + fixed(percentile(values, 50)) + ", p90: " + fixed(percentile(values, 90)) +
           ", p99: " + fixed(percentile(values, 99)) + ", per image: " + fixed(sum(values) / double(num_images)) + "\n";
}

}  // namespace

void StageTimer::start() {
    milliseconds_.emplace_back();
    last_ = std::chrono::steady_clock::now();
}

void StageTimer::stamp() {
    const auto now = std::chrono::steady_clock::now();
    milliseconds_.back().push_back(std::chrono::duration<double, std::milli>(now - last_).count());
    last_ = now;
}

std::string report(const Conditions& conditions, const StageTimer& timer) {
    const std::vector<std::vector<double>>& batches = timer.milliseconds();
    const std::string side = std::to_string(conditions.input_size);
    std::vector<double> whole;
    std::array<std::vector<double>, kStages.size()> stages;
    for (const std::vector<double>& batch : batches) {
        whole.push_back(sum(batch));
        for (std::size_t i = 0; i < kStages.size(); ++i) {
            stages[i].push_back(batch[i]);
        }
    }
    std::string means;
    std::string lines;
    for (std::size_t i = 0; i < kStages.size(); ++i) {
        means +=
            (i == 0 ? " " : ", ") + std::string(kStages[i]) + "(ms): " + fixed(sum(stages[i]) / double(batches.size()));
        lines += percentiles(kStages[i], stages[i], conditions.num_images);
    }
    lines += percentiles("batch_time", whole, conditions.num_images);
    return title("Conf info") + " runtime_device: cpu\n engine: " + conditions.engine + "\n" + title("Model info") +
           " model_name: " + conditions.model_name + "\n precision: " + conditions.precision + "\n" +
           title("Data info") + " batch_size: " + std::to_string(conditions.batch_size) + "\n input_shape: 3," + side +
           "," + side + "\n data_num: " + std::to_string(batches.size()) +
           "\n image_num: " + std::to_string(conditions.num_images) + "\n" + title("Perf info") +
           " cpu_rss(MB): " + fixed(peak_memory_mb()) +
           ", gpu_rss(MB): None, gpu_util: None%\n total time spent(s): " + fixed(sum(whole) / 1000) + "\n" + means +
           "\n" + lines + " throughput(images/s): " + fixed(1000 * double(conditions.num_images) / sum(whole)) + "\n";
}

}  // namespace classify
