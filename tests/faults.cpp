// holdfast: does an example that serves lines bear it when its n-th operation fails, whichever that is? No
// fault leaks, hangs, or stops the others from being served.
// SPDX-License-Identifier: BSL-1.0
#include "support/example_faults.hpp"

namespace {

const tested_program tested{"--max-connections 3 " FAULTS_ARGUMENTS, 1, [](client& witness) {
                                witness.send("five\n");
                                return witness.lines(1);
                            }};

} // namespace

// In all of them: nothing is left open, each connection was finalized, and others are served.

TEST_CASE("any system call on a socket may fail, while clients come, speak, and go in good order or not")
{
    any_operation_may_fail({"three ways to go", [](stage& s) {
                                client polite(s.where);
                                polite.send("one\ntwo\n");
                                polite.lines(2);
                                polite.half_close();
                                polite.read_to_end();
                                client rude(s.where);
                                rude.send("three\n");
                                rude.lines(1);
                                rude.reset();
                                s.staying.emplace_back(s.where).send("four"); // and no end of the line
                            }});
}

TEST_CASE("any system call on a socket may fail, while clients say all at once, or nothing")
{
    any_operation_may_fail({"all at once, or nothing", [](stage& s) {
                                client hurried(s.where);
                                hurried.send("1\n2\n3\n4\n5\n6\n");
                                hurried.half_close();
                                hurried.read_to_end();
                                client(s.where).reset();
                                client(s.where).close();
                                s.staying.emplace_back(s.where);
                            }});
}

TEST_CASE("any system call on a socket may fail, while a client sends a line without an end")
{
    any_operation_may_fail({"an endless line", [](stage& s) {
                                client endless(s.where);
                                endless.send("one\n");
                                endless.lines(1);
                                endless.send(std::string(6000, 'x')); // more than a frame may have
                                endless.half_close();
                                endless.read_to_end();
                            }});
}

TEST_CASE("any system call on a socket may fail, while a client waits until there is room")
{
    any_operation_may_fail({"a full house", [](stage& s) {
                                std::list<client> three;
                                for (int i = 0; i != 3; ++i)
                                    three.emplace_back(s.where).send("line\n");
                                for (client& each : three)
                                    each.lines(1);
                                client& fourth = s.staying.emplace_back(s.where);
                                fourth.send("line\n");
                                three.front().half_close();
                                three.front().read_to_end();
                                fourth.lines(1);
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
                            FAULTS_IMPATIENT});
}

TEST_CASE("any system call on a socket may fail, while clients read slowly, or not before the server drains")
{
    any_operation_may_fail({"slow readers",
                            [](stage& s) {
                                const std::string line = std::string(2000, 'x') + '\n';
                                client slow(s.where);
                                slow.send(line + line);
                                slow.lines(2, 500);
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
                                const std::string line = std::string(2000, 'x') + '\n';
                                client& deaf = s.mute.emplace_back(s.where, 2048);
                                deaf.send(line + line + line + line + line);
                            },
                            "--drain 500ms"});
}
