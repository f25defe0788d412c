// holdfast: an example program as a child process: one that serves, and one that must refuse to start.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_TESTS_SUPPORT_EXAMPLE_SERVER_HPP
#define HOLDFAST_TESTS_SUPPORT_EXAMPLE_SERVER_HPP

#include "catch.hpp"
#include "process.hpp"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace tests {

inline const std::string examples_directory = EXAMPLES_DIRECTORY;

/// A server on a port that the kernel chose; what it prints first names the port.
struct example_server {
    example_server(const std::string& name, std::vector<std::string> arguments)
        : child(command(name, std::move(arguments)))
    {
        const std::string first = line_beginning(name + ": listening on ");
        const auto end = std::min(first.find(", pid "), first.size());
        INFO(first);
        const auto colon = first.rfind(':', end);
        port = first.substr(colon + 1, end - colon - 1);
    }

    static std::vector<std::string> command(const std::string& name, std::vector<std::string> arguments)
    {
        if (name == "starting_point" || name == "callback_server") // which have no options
            return {examples_directory + "/" + name, "0"};
        arguments.insert(arguments.begin(), {examples_directory + "/" + name, "--port", "0"});
        return arguments;
    }

    [[nodiscard]] net::ip::tcp::endpoint endpoint() const
    {
        return {net::ip::address_v4::loopback(), static_cast<unsigned short>(std::stoul(port))};
    }

    /// The next line that it prints and that begins so; throws where none comes.
    std::string line_beginning(const std::string& beginning)
    {
        for (;;) {
            std::string line = child.line();
            if (line.starts_with(beginning)) return line;
            if (line.empty()) throw std::runtime_error("the server did not print '" + beginning + "'");
        }
    }

    process child;
    std::string port;
};

/// Runs a program that must refuse to start: its exit status, and the one line that it printed.
inline int refusal(const std::vector<std::string>& command, std::string& line)
{
    process child(command);
    const int status = child.wait(&line);
    CHECK(std::count(line.begin(), line.end(), '\n') == 1);
    return status;
}

} // namespace tests

#endif
