// One table says every flag: its name, where its value goes, what it means.
#include "options.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <limits>
#include <variant>

#include "errors.h"

namespace classify {
namespace {

// Where the value of a flag goes; its type says how it is read.
using Place = std::variant<std::string Options::*, int Options::*, double Options::*, bool Options::*>;

struct Flag {
    std::string name;
    Place place;
    std::string meaning;
};

const std::vector<Flag> kFlags = {
    {"--model_file", &Options::model_file, "exported folder, or its .onnx file; the card is read from the folder"},
    {"--input_file", &Options::input_file, "an image, or a folder (searched recursively)"},
    {"--batch_size", &Options::batch_size, "images a batch; also -b (default: 1)"},
    {"--cpu_threads", &Options::cpu_threads, "threads of the network (default: one a core)"},
    {"--precision", &Options::precision, "fp32, or int8: the program of --format onnx-int8 (default: fp32)"},
    {"--topk", &Options::topk, "classes named for each image (default: 5)"},
    {"--threshold", &Options::threshold, "leave out classes less probable than this (default: 0.0)"},
    {"--save_path", &Options::save_path, "write the records to this .jsonl file, not to stdout"},
    {"--enable_benchmark", &Options::enable_benchmark, "report times and memory on stderr at the end (default: False)"},
    {"--dump_input", &Options::dump_input,
     "also write what the network is fed, float32 [N, 3, S, S], to this .npy file"},
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

// The predecessor's rule: true, t and 1 in any case; anything else is false.
bool truth(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    return text == "true" || text == "t" || text == "1";
}

void set(Options& options, const Flag& flag, const std::string& value) {
    if (const auto* place = std::get_if<int Options::*>(&flag.place)) {
        options.** place = number(flag, value, 1, std::numeric_limits<int>::max(), "a whole number from 1");
    } else if (const auto* place = std::get_if<double Options::*>(&flag.place)) {
        options.** place = number(flag, value, 0.0, 1.0, "a number from 0 to 1");
    } else if (const auto* place = std::get_if<bool Options::*>(&flag.place)) {
        options.** place = truth(value);
    } else {
        options.*std::get<std::string Options::*>(flag.place) = value;
    }
}

std::string taken_value(const Flag& flag) {
    constexpr const char* kWords[] = {"TEXT", "INT", "FLOAT", "BOOL"};  // in the order of Place
    return kWords[flag.place.index()];
}

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
            throw UsageError(flag.name + ": expected its value after it");
        }
        set(options, flag, equals == std::string::npos ? arguments[++i] : name.substr(equals + 1));
    }
    require(options.model_file, "--model_file");
    require(options.input_file, "--input_file");
    if (options.precision != "fp32" && options.precision != "int8") {
        throw UsageError("--precision: unknown value '" + options.precision + "'; known: fp32, int8");
    }
    return options;
}

std::string help_text() {
    std::string text =
        "usage: infer --model_file FOLDER --input_file PATH [flags]\n\n"
        "Exported folder + images -> the most probable classes, a line of JSON an image.\n\n";
    for (const Flag& flag : kFlags) {
        std::string line = "  " + flag.name + " " + taken_value(flag);
        line.resize(std::max<std::size_t>(line.size() + 2, 28), ' ');
        text += line + flag.meaning + "\n";
    }
    return text +
           "\nExit codes: 2 usage, 3 an image could not be read (the others were answered), 4 the exported "
           "folder is not usable.\n";
}

}  // namespace classify
