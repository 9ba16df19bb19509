// One table says every flag: its names, what it takes, what it means and where its value goes.
#include "options.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <limits>

#include "errors.h"

namespace classify {
namespace {

struct Flag {
    std::string name;
    std::string takes;
    std::string meaning;
    void (*set)(Options& options, const Flag& flag, const std::string& value);
};

// `text` as a number, if all of it is one and lies between `low` and `high`.
template <typename Number>
Number number(const Flag& flag, const std::string& text, Number low, Number high, const std::string& expected) {
    Number value{};
    const char* end = text.data() + text.size();
    const std::from_chars_result result = std::from_chars(text.data(), end, value);
    if (result.ec != std::errc() || result.ptr != end || !(value >= low && value <= high)) {
        throw UsageError(flag.name + ": expected " + expected + ", got '" + text + "'");
    }
    return value;
}

int count(const Flag& flag, const std::string& text) {
    return number(flag, text, 1, std::numeric_limits<int>::max(), "a whole number from 1");
}

// The predecessor's rule: true, t and 1 in any case; anything else is false.
bool truth(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    return text == "true" || text == "t" || text == "1";
}

void set_precision(Options& options, const Flag& flag, const std::string& value) {
    if (value != "fp32" && value != "int8") {
        throw UsageError(flag.name + ": unknown value '" + value + "'; known: fp32, int8");
    }
    options.precision = value;
}

const std::vector<Flag> kFlags = {
    {"--model_file", "PATH", "exported folder, or its .onnx file; the card is read from the folder",
     [](Options& options, const Flag&, const std::string& value) { options.model_file = value; }},
    {"--input_file", "PATH", "an image, or a folder (searched recursively)",
     [](Options& options, const Flag&, const std::string& value) { options.input_file = value; }},
    {"--batch_size", "INT", "images a batch; also -b (default: 1)",
     [](Options& options, const Flag& flag, const std::string& value) { options.batch_size = count(flag, value); }},
    {"--cpu_threads", "INT", "threads of the network (default: one a core)",
     [](Options& options, const Flag& flag, const std::string& value) { options.cpu_threads = count(flag, value); }},
    {"--precision", "{fp32,int8}", "int8 takes the program that --format onnx-int8 wrote (default: fp32)",
     set_precision},
    {"--topk", "INT", "classes an image (default: 5)",
     [](Options& options, const Flag& flag, const std::string& value) { options.topk = count(flag, value); }},
    {"--threshold", "FLOAT", "leave out classes of a lower probability (default: 0.0)",
     [](Options& options, const Flag& flag, const std::string& value) {
         options.threshold = number(flag, value, 0.0, 1.0, "a number from 0 to 1");
     }},
    {"--save_path", "PATH", "write the records to this .jsonl file, not to stdout",
     [](Options& options, const Flag&, const std::string& value) { options.save_path = value; }},
    {"--enable_benchmark", "BOOL", "report times, percentiles and memory on stderr at the end (default: False)",
     [](Options& options, const Flag&, const std::string& value) { options.enable_benchmark = truth(value); }},
    {"--dump_input", "PATH", "also write what the network is fed, float32 [N, 3, S, S], to this .npy file",
     [](Options& options, const Flag&, const std::string& value) { options.dump_input = value; }},
};

const Flag& find_flag(std::string name) {
    std::replace(name.begin() + 2, name.end(), '-', '_');
    const auto flag = std::find_if(kFlags.begin(), kFlags.end(), [&](const Flag& one) { return one.name == name; });
    if (flag != kFlags.end()) {
        return *flag;
    }
    std::string known;
    for (const Flag& one : kFlags) {
        known += " " + one.name;
    }
    throw UsageError("unknown flag " + name + "; flags are" + known + " --help");
}

void require(const std::string& value, const std::string& name) {
    if (value.empty()) {
        throw UsageError(name + " is missing; for example: infer --model_file exported --input_file photos");
    }
}

}  // namespace

Options parse_options(const std::vector<std::string>& arguments) {
    Options options;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        std::string name = arguments[i];
        if (name == "--help" || name == "-h") {
            options.help = true;
            return options;
        }
        if (name == "-b") {
            name = "--batch_size";
        }
        if (name.compare(0, 2, "--") != 0) {
            throw UsageError("unexpected '" + name + "'; name a flag before it, see --help");
        }
        const std::size_t equals = name.find('=');
        const Flag& flag = find_flag(name.substr(0, equals));
        if (equals == std::string::npos && i + 1 == arguments.size()) {
            throw UsageError(flag.name + ": expected " + flag.takes + " after it");
        }
        flag.set(options, flag, equals == std::string::npos ? arguments[++i] : name.substr(equals + 1));
    }
    require(options.model_file, "--model_file");
    require(options.input_file, "--input_file");
    return options;
}

std::string help_text() {
    std::string text =
        "usage: infer --model_file FOLDER --input_file PATH [flags]\n\n"
        "Exported folder + images -> the most probable classes, a line of JSON an image.\n\n";
    for (const Flag& flag : kFlags) {
        std::string line = "  " + flag.name + " " + flag.takes;
        line.resize(std::max<std::size_t>(line.size() + 2, 28), ' ');
        text += line + flag.meaning + "\n";
    }
    return text +
           "\nExit codes: 2 usage, 3 an image could not be read (the others were answered), 4 the exported "
           "folder is not usable.\n";
}

}  // namespace classify
