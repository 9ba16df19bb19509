// What can go wrong, each with the exit code that the Python scripts use for it.
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

// A flag that is unknown, missing or of a wrong value.
struct UsageError : Error {
    explicit UsageError(const std::string& message) : Error(2, message) {}
};

// Images that are not there.
struct DataError : Error {
    explicit DataError(const std::string& message) : Error(3, message) {}
};

// One image that cannot be read; the message is the reason, without the path.
struct BadImage : DataError {
    using DataError::DataError;
};

// An exported folder that is incomplete, damaged, or not what its card says.
struct ExportedModelError : Error {
    explicit ExportedModelError(const std::string& message) : Error(4, message) {}
};

}  // namespace classify
