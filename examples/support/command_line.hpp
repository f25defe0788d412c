// holdfast: the examples' command line: named options with defaults, --help, and errors of one line.
// SPDX-License-Identifier: BSL-1.0
#ifndef HOLDFAST_EXAMPLES_SUPPORT_COMMAND_LINE_HPP
#define HOLDFAST_EXAMPLES_SUPPORT_COMMAND_LINE_HPP

#include <charconv>
#include <chrono>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <exception>
#include <functional>
#include <iostream>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#ifdef HOLDFAST_USE_BOOST_ASIO
#include <boost/system/system_error.hpp>
#endif

namespace examples {

/// The user asked for something that cannot be: `run_main` prints `what()` in one line and exits with 2.
struct usage_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// A number of bytes on the command line: `65536`, `64k`, `16M`, `2G` (powers of 1024).
struct byte_count {
    std::uint64_t value = 0;

    friend bool operator==(byte_count, byte_count) = default;
};

/// Reads `65536`, `64k`, `16M`, `2G`; nothing where the text is anything else, or too large for 64 bits.
inline std::optional<byte_count> parse_byte_count(std::string_view text)
{
    byte_count result;
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, result.value);
    if (error != std::errc{}) return std::nullopt;
    if (rest == end) return result;
    int shift = 0;
    switch (*rest) {
    case 'k':
    case 'K':
        shift = 10;
        break;
    case 'm':
    case 'M':
        shift = 20;
        break;
    case 'g':
    case 'G':
        shift = 30;
        break;
    default:
        return std::nullopt;
    }
    const bool too_large = result.value > (std::numeric_limits<std::uint64_t>::max() >> shift);
    if (rest + 1 != end || too_large) return std::nullopt;
    result.value <<= shift;
    return result;
}

/// The options of a program. Each refers to a variable that holds the default and receives the value:
///
///     command_line cli{"market_feed", "A push server whose memory is bounded."};
///     std::uint16_t port = 7777;
///     cli.add("port", port, "N", "the port to listen on; 0: one that the kernel chooses");
///     if (!cli.parse(argc, argv)) return 0;    // --help
///
/// `--port 80` and `--port=80` mean the same. Types: integers, floating-point numbers, `std::string`,
/// `byte_count`, `std::chrono` seconds and milliseconds (`500ms`, `2s`, `3m`; a plain `30` is seconds), and
/// `bool`: a flag without a value.
class command_line {
public:
    command_line(std::string_view program, std::string_view summary) : program_{program}, summary_{summary} {}

    /// Adds the option `--name METAVAR`. `value` must outlive `parse`; what it holds now is the default.
    template <class T>
    void add(std::string_view name, T& value, std::string_view metavar, std::string_view help)
    {
        options_.push_back(
            {std::string{name}, std::string{metavar}, std::string{help}, default_text(value), std::same_as<T, bool>,
             [&value, option = std::string{name}](std::string_view text) { read(value, text, option); }});
    }

    /// Adds the flag `--name`, false until it is given.
    void add(std::string_view name, bool& value, std::string_view help) { add(name, value, "", help); }

    /// Takes what is given without a leading `--`; without this call it is an error.
    void add_rest(std::vector<std::string>& values, std::string_view metavar, std::string_view help)
    {
        rest_ = &values;
        rest_metavar_ = metavar;
        rest_help_ = help;
    }

    /// Reads the arguments into the variables. `--help` prints the options and returns false: there is
    /// nothing more to do. Throws `usage_error`, which says in one line what to do.
    bool parse(int argc, const char* const* argv)
    {
        for (int i = 1; i < argc; ++i) {
            const std::string_view argument = argv[i];
            if (argument == "--help" || argument == "-h") {
                print_help(std::cout);
                return false;
            }
            if (!argument.starts_with("--")) {
                if (rest_ == nullptr || (argument.size() > 1 && argument.starts_with("-")))
                    throw usage_error("unexpected argument '" + std::string{argument} + "' (see --help)");
                rest_->emplace_back(argument);
                continue;
            }
            const std::size_t equals = argument.find('=');
            const std::string_view name = argument.substr(2, equals == argument.npos ? equals : equals - 2);
            const option& chosen = find(name);
            if (chosen.flag) {
                if (equals != argument.npos) fail(name, "is a flag and takes no value");
                chosen.read("");
            } else if (equals != argument.npos) {
                chosen.read(argument.substr(equals + 1));
            } else if (i + 1 < argc) {
                chosen.read(argv[++i]);
            } else {
                fail(name, "needs a value: " + chosen.metavar);
            }
        }
        return true;
    }

    /// Throws the `usage_error` for an option whose value cannot be right: "--NAME WHAT (see --help)".
    [[noreturn]] static void fail(std::string_view name, std::string_view what)
    {
        throw usage_error("--" + std::string{name} + " " + std::string{what} + " (see --help)");
    }

    /// What `--help` prints.
    void print_help(std::ostream& out) const
    {
        out << "usage: " << program_ << " [OPTIONS]";
        if (rest_ != nullptr) out << " [" << rest_metavar_ << "]";
        out << "\n" << summary_ << "\n\n";
        if (rest_ != nullptr) print_entry(out, rest_metavar_, rest_help_);
        for (const option& each : options_) {
            const std::string left = "--" + each.name + (each.flag ? "" : " " + each.metavar);
            print_entry(out, left, each.default_text.empty() ? each.help : each.help + " [" + each.default_text + "]");
        }
        print_entry(out, "--help", "print this");
    }

private:
    struct option {
        std::string name, metavar, help, default_text;
        bool flag;
        std::function<void(std::string_view)> read;
    };

    template <class T>
    static constexpr bool is_duration = requires { typename T::period; };

    static std::string quoted(std::string_view text)
    {
        std::string marked(1, '\''); // appended to: g++ 12 takes the sum for an overlapping copy
        return marked.append(text).append(1, '\'');
    }

    static void print_entry(std::ostream& out, std::string_view left, std::string_view right)
    {
        constexpr std::size_t column = 30;
        out << "  " << left;
        const std::size_t used = left.size() + 2;
        if (used < column) {
            out << std::string(column - used, ' ') << right << "\n";
        } else {
            out << "\n" << std::string(column, ' ') << right << "\n";
        }
    }

    template <class T>
    static std::string default_text(const T& value)
    {
        if constexpr (std::same_as<T, bool>) {
            return "";
        } else if constexpr (std::same_as<T, std::string>) {
            return value;
        } else if constexpr (std::same_as<T, byte_count>) {
            for (const auto& [shift, unit] : {std::pair{30, "G"}, std::pair{20, "M"}, std::pair{10, "k"}})
                if (value.value != 0 && value.value % (std::uint64_t{1} << shift) == 0)
                    return std::to_string(value.value >> shift) + unit;
            return std::to_string(value.value);
        } else if constexpr (is_duration<T>) {
            const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(value).count();
            return ms % 1000 == 0 ? std::to_string(ms / 1000) + "s" : std::to_string(ms) + "ms";
        } else {
            char text[64];
            const auto [end, error] = std::to_chars(text, text + sizeof text, value);
            return error == std::errc{} ? std::string(text, end) : std::string{};
        }
    }

    template <class T>
    static void read(T& value, std::string_view text, std::string_view name)
    {
        if constexpr (std::same_as<T, bool>) {
            value = true;
        } else if constexpr (std::same_as<T, std::string>) {
            value = text;
        } else if constexpr (std::same_as<T, byte_count>) {
            const auto parsed = parse_byte_count(text);
            if (!parsed) fail(name, "takes a number of bytes such as 65536, 64k or 16M, not " + quoted(text));
            value = *parsed;
        } else if constexpr (is_duration<T>) {
            value = read_duration<T>(text, name);
        } else {
            static_assert(std::integral<T> || std::floating_point<T>, "an option of a type that cannot be read");
            T parsed{};
            const char* const end = text.data() + text.size();
            const auto [rest, error] = std::from_chars(text.data(), end, parsed);
            bool good = error == std::errc{} && rest == end;
            if constexpr (std::floating_point<T>) good = good && std::isfinite(parsed);
            if (!good) fail(name, "takes " + expected<T>() + ", not " + quoted(text));
            value = parsed;
        }
    }

    template <class T>
    static std::string expected()
    {
        if constexpr (std::integral<T>) {
            const std::string lowest = std::to_string(std::numeric_limits<T>::min());
            const std::string highest = std::to_string(std::numeric_limits<T>::max());
            return "a whole number from " + lowest + " to " + highest;
        } else {
            return "a number";
        }
    }

    /// A number with an optional unit; one without is seconds, whatever the variable counts.
    template <class Duration>
    static Duration read_duration(std::string_view text, std::string_view name)
    {
        double number = 0;
        const char* const end = text.data() + text.size();
        const auto [rest, error] = std::from_chars(text.data(), end, number);
        const std::string_view unit{rest, static_cast<std::size_t>(end - rest)};
        double unit_seconds = 1;
        bool good = error == std::errc{} && std::isfinite(number) && number >= 0;
        if (unit == "ms") {
            unit_seconds = 0.001;
        } else if (unit == "m" || unit == "min") {
            unit_seconds = 60;
        } else {
            good = good && (unit.empty() || unit == "s");
        }
        const double seconds = number * unit_seconds;
        good = good && seconds < 1e9;
        if (!good) fail(name, "takes a time such as 30s, 500ms or 2m, not " + quoted(text));
        const auto rounded = std::chrono::round<Duration>(std::chrono::duration<double>{seconds});
        if (std::abs(std::chrono::duration<double>{rounded}.count() - seconds) > 1e-6) {
            constexpr bool whole_seconds = std::same_as<typename Duration::period, std::ratio<1>>;
            fail(name, whole_seconds ? "takes whole seconds" : "takes whole milliseconds");
        }
        return rounded;
    }

    const option& find(std::string_view name) const
    {
        for (const option& each : options_)
            if (each.name == name) return each;
        throw usage_error("unknown option '--" + std::string{name} + "' (see --help)");
    }

    std::string program_, summary_;
    std::vector<option> options_;
    std::vector<std::string>* rest_ = nullptr;
    std::string rest_metavar_, rest_help_;
};

/// Calls `f(argc, argv)` and returns its result as the exit status. What it throws becomes one line on the
/// standard error output, "NAME: message", and the status 2 for a `usage_error` or an error of the system (a
/// port in use, a file that is not there), 1 for anything else.
template <class F>
int run_main(int argc, char** argv, F&& f)
{
    std::string_view name = argc > 0 ? argv[0] : "program";
    name.remove_prefix(name.find_last_of('/') + 1);
    const auto complain = [&](const char* message, int status) {
        std::cout.flush();
        std::cerr << name << ": " << message << std::endl;
        return status;
    };
    try {
        return std::forward<F>(f)(argc, argv);
    } catch (const usage_error& error) {
        return complain(error.what(), 2);
    } catch (const std::system_error& error) {
        return complain(error.what(), 2);
#ifdef HOLDFAST_USE_BOOST_ASIO
    } catch (const boost::system::system_error& error) {
        return complain(error.what(), 2);
#endif
    } catch (const std::exception& error) {
        return complain(error.what(), 1);
    }
}

} // namespace examples

#endif
