// The errors of the program, with the exit codes of the Python scripts.
#pragma once

#include <stdexcept>
#include <string>

namespace classify {

class Error : public std::runtime_error {
 public:
    Error(int exit_code, const std::string& message) : std::runtime_error(message), exit_code_(exit_code) {}
    int exit_code() const {
        return exit_code_;
    }

 private:
    int exit_code_;
};

// A flag is unknown, missing, or has a wrong value.
struct UsageError : Error {
    explicit UsageError(const std::string& message) : Error(2, message) {}
};

// There are no images, or the output cannot be written.
struct DataError : Error {
    explicit DataError(const std::string& message) : Error(3, message) {}
};

// An image cannot be read; the message is the reason, without the path.
struct BadImage : DataError {
    using DataError::DataError;
};

// An exported folder is incomplete, damaged, or does not fit its card.
struct ExportedModelError : Error {
    explicit ExportedModelError(const std::string& message) : Error(4, message) {}
};

}  // namespace classify
