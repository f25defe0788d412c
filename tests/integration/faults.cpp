// holdfast: does an example that serves lines, or netstrings, survive when its n-th operation fails, whichever that is?
// No fault leaks, hangs, or stops the others from being served.
// SPDX-License-Identifier: BSL-1.0
#include "support/example_faults.hpp"

namespace {

#ifdef FAULTS_NETSTRINGS
constexpr char end_of_answer = '}';

std::string message(std::string_view text) { return std::to_string(text.size()) + ':' + std::string(text) + ','; }
#else
constexpr char end_of_answer = '\n';

std::string message(std::string_view text) { return std::string(text) + '\n'; }
#endif

/// One that has no end.
std::string begun(std::string_view text)
{
    std::string whole = message(text);
    whole.pop_back();
    return whole;
}

bool answers(client& to, std::ptrdiff_t count, std::size_t at_once = 4096)
{
    return to.lines(count, at_once, end_of_answer);
}

const tested_program tested{"--max-connections 3 " FAULTS_ARGUMENTS, 1, [](client& witness) {
                                witness.send(message("five"));
                                return answers(witness, 1);
                            }};

} // namespace

// In all of them: nothing is left open, each connection was finalized, and others are served.

TEST_CASE("any system call on a socket may fail, while clients connect, send, and leave with or without a close")
{
    any_operation_may_fail({"three ways to go", [](stage& s) {
                                client orderly(s.where);
                                orderly.send(message("one") + message("two"));
                                answers(orderly, 2);
                                orderly.half_close();
                                orderly.read_to_end();
                                client resetting(s.where);
                                resetting.send(message("three"));
                                answers(resetting, 1);
                                resetting.reset();
                                s.staying.emplace_back(s.where).send(begun("four"));
                            }});
}

TEST_CASE("any system call on a socket may fail, while clients say all at once, or nothing")
{
    any_operation_may_fail({"all at once, or nothing", [](stage& s) {
                                client pipelining(s.where);
                                std::string six;
                                for (const char digit : std::string_view("123456"))
                                    six += message({&digit, 1});
                                pipelining.send(six);
                                pipelining.half_close();
                                pipelining.read_to_end();
                                client(s.where).reset();
                                client(s.where).close();
                                s.staying.emplace_back(s.where);
                            }});
}

TEST_CASE("any system call on a socket may fail, while a client sends a message without an end")
{
    any_operation_may_fail({"an endless message", [](stage& s) {
                                client endless(s.where);
                                endless.send(message("one"));
                                answers(endless, 1);
                                endless.send(begun(std::string(6000, 'x'))); // more than a frame may have
                                endless.half_close();
                                endless.read_to_end();
                            }});
}

TEST_CASE("any system call on a socket may fail, while a client waits for a permit")
{
    any_operation_may_fail({"a full house", [](stage& s) {
                                std::list<client> three;
                                for (int i = 0; i != 3; ++i)
                                    three.emplace_back(s.where).send(message("line"));
                                for (client& each : three)
                                    answers(each, 1);
                                client& fourth = s.staying.emplace_back(s.where);
                                fourth.send(message("line"));
                                three.front().half_close();
                                three.front().read_to_end();
                                answers(fourth, 1);
                                three.back().reset();
                                s.staying.splice(s.staying.end(), three, std::next(three.begin()));
                            }});
}

TEST_CASE("any system call on a socket may fail, while a client is silent for too long")
{
    any_operation_may_fail({"silence",
                            [](stage& s) {
                                client silent(s.where);
                                silent.read_to_end();
                            },
                            FAULTS_SHORT_TIMEOUT});
}

TEST_CASE("any system call on a socket may fail, while clients read slowly, or not before the server drains")
{
    any_operation_may_fail({"slow readers",
                            [](stage& s) {
                                const std::string line = message(std::string(2000, 'x'));
                                client slow(s.where);
                                slow.send(line + line);
                                answers(slow, 2, 500);
                                slow.half_close();
                                slow.read_to_end();
                                client& late = s.staying.emplace_back(s.where);
                                late.send(line + line);
                            },
                            {},
                            true});
}

TEST_CASE("any system call on a socket may fail, while a client never reads and is aborted at the deadline")
{
    any_operation_may_fail({"no reader",
                            [](stage& s) {
                                const std::string line = message(std::string(2000, 'x'));
                                client& non_reader = s.mute.emplace_back(s.where, 2048);
                                non_reader.send(line + line + line + line + line);
                            },
                            "--drain 500ms"});
}
